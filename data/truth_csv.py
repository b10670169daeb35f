"""Ground truth in a csv file: one row per frame, integers 0..255 in C, H, W order."""

from pathlib import Path

import numpy as np
import torch

from utils import UserError, counted


def read_frames(path: Path) -> np.ndarray:
    """Read the pixel columns of a csv file with one frame per row -> (rows, 3*H*W) uint8.

    A header, an id column before the pixels and a text column such as Usage after them are recognized and ignored.
    Raises UserError for other content.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            first, second = (file.readline().strip().split(",") for _ in range(2))
            others = [line.strip() for line in file if line.strip()]
        counts = {line.count(",") + 1 for line in others}
        # A header consists of names, or of the numbers 0, 1, 2, ..., which are hardly pixels.
        header = not is_number(first[0]) or (len(first) > 3 and first == [str(i) for i in range(len(first))])
        row = second if header else first
        if row == [""]:
            raise ValueError("no row of values")
        counts |= {len(second)} - {1}  # a second row need not exist
        if counts - {len(row)}:  # loadtxt would read the requested columns from rows of any length
            raise ValueError(f"a row of {len(row)} values and one of {max(counts - {len(row)})}")
        end = len(row) if is_number(row[-1]) else len(row) - 1
        last_fields = [line.rpartition(",")[2] for line in others] + ([] if header else second[-1:])
        if end < len(row) and any(map(is_number, last_fields)):
            raise ValueError("a last column of text and numbers")
        begin = end % 3  # a frame has three channels, so a remaining column is the id
        if header and first[0] in ("id", "") and begin == 0:
            raise ValueError("rows with one value less than the header")
        values = np.loadtxt(path, delimiter=",", skiprows=int(header), usecols=range(begin, end), ndmin=2,
                            comments=None, encoding="utf-8-sig")  # fmt: skip
    except (ValueError, IndexError) as error:
        raise UserError(f"{path}: expected one row of integers 0..255 per frame, got something else ({error})") from None
    if values.size == 0 or not ((values >= 0) & (values <= 255) & (values == np.rint(values))).all():
        raise UserError(f"{path}: expected integers 0..255, got other values")
    return values.astype(np.uint8)


def is_number(text: str) -> bool:
    """Return whether a csv field is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_ground_truth(path: Path, lengths: list[int], *, height: int, width: int) -> list[torch.Tensor]:
    """Read ground truth from one csv file: a video (T, 3, H, W) uint8 for each T in `lengths`.

    Raises UserError if the file has another number of frames or values.
    """
    rows = read_frames(path)
    if rows.shape != (sum(lengths), 3 * height * width):
        raise UserError(
            f"{path}: expected {counted(sum(lengths), 'frame')} of {3 * height * width} values (3 x {height} x {width}), "
            f"got {counted(rows.shape[0], 'frame')} of {rows.shape[1]}"
        )
    return list(torch.from_numpy(rows).reshape(-1, 3, height, width).split(lengths))


def find_ground_truth(
    root: Path, gt: Path | None, lengths: dict[str, int], *, height: int, width: int
) -> dict[str, torch.Tensor]:  # fmt: skip
    """Read the ground truth of sequences {name: number of frames} from csv files.

    If `gt` is given, it contains all sequences. Otherwise, every Demo_Test/GT{name}.csv in the data set or next to it is read.
    Raises UserError if `gt` is missing, or if a file does not fit.
    """
    if gt is not None:
        if not gt.is_file():
            raise UserError(f"--gt {gt}: no such file")
        return dict(zip(lengths, read_ground_truth(gt, list(lengths.values()), height=height, width=width)))
    files = {}
    for folder in (root.parent / "Demo_Test", root / "Demo_Test"):
        files.update({name: folder / f"GT{name}.csv" for name in lengths if (folder / f"GT{name}.csv").is_file()})
    return {name: read_ground_truth(file, [lengths[name]], height=height, width=width)[0] for name, file in files.items()}
