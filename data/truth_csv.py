"""Ground truth in csv form: one row per frame, C, H, W order, integers 0..255."""

from pathlib import Path

import numpy as np
import torch

from utils import UserError


def read_frames(path: Path) -> np.ndarray:
    """The pixel columns of a csv with one frame a row -> (rows, 3*H*W) uint8.

    A header, an id column in front and a text column such as Usage behind are found and passed over. Raises UserError.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            first, second = (file.readline().strip().split(",") for _ in range(2))
            others = [line.strip() for line in file if line.strip()]
        counts = {line.count(",") + 1 for line in others}
        # Names, or numbers from 0 on, which a table of pixels would hardly begin with.
        header = not is_number(first[0]) or (len(first) > 3 and first == [str(i) for i in range(len(first))])
        row = second if header else first
        if row == [""]:
            raise ValueError("no row of values")
        counts |= {len(second)} - {1}  # there may be a single row
        if counts - {len(row)}:  # loadtxt takes the columns that it is asked for of rows of any length
            raise ValueError(f"a row of {len(row)} and one of {max(counts - {len(row)})} values")
        end = len(row) if is_number(row[-1]) else len(row) - 1
        last_fields = [line.rpartition(",")[2] for line in others] + ([] if header else second[-1:])
        if end < len(row) and any(map(is_number, last_fields)):
            raise ValueError("a last column of text and numbers")
        begin = end % 3  # a frame has three channels, so a column left over is the id
        if header and first[0] in ("id", "") and begin == 0:
            raise ValueError("a column of values less than its header has")
        values = np.loadtxt(path, delimiter=",", skiprows=int(header), usecols=range(begin, end), ndmin=2,
                            comments=None, encoding="utf-8-sig")  # fmt: skip
    except (ValueError, IndexError) as error:
        raise UserError(f"{path}: not a table of frames ({error}); expected a row of integers 0..255 per frame") from None
    if values.size == 0 or not ((values >= 0) & (values <= 255) & (values == np.rint(values))).all():
        raise UserError(f"{path}: holds values other than the integers 0..255")
    return values.astype(np.uint8)


def is_number(text: str) -> bool:
    """Whether a csv field holds a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_truth(path: Path, lengths: list[int], *, height: int, width: int) -> list[torch.Tensor]:
    """True videos (T, 3, H, W) uint8 from one csv, cut into sequences of `lengths` frames. Raises UserError."""
    rows = read_frames(path)
    if rows.shape != (sum(lengths), 3 * height * width):
        raise UserError(
            f"{path}: {rows.shape[0]} frames of {rows.shape[1]} values; "
            f"expected {sum(lengths)} frames of {3 * height * width} (3 x {height} x {width})"
        )
    return list(torch.from_numpy(rows).reshape(-1, 3, height, width).split(lengths))


def find_truth(root: Path, gt: Path | None, lengths: dict[str, int], *, height: int, width: int) -> dict[str, torch.Tensor]:
    """Truth in csv form, for sequences {name: frames}: `gt`, one file for all, or Demo_Test/GT{name}.csv in or beside the
    data set, as many as there are. Raises UserError for a missing or unfit file.
    """
    size = {"height": height, "width": width}
    if gt is not None:
        if not gt.is_file():
            raise UserError(f"--gt {gt}: no such file")
        return dict(zip(lengths, read_truth(gt, list(lengths.values()), **size)))
    files = {name: folder / f"GT{name}.csv" for folder in (root.parent / "Demo_Test", root / "Demo_Test") for name in lengths
             if (folder / f"GT{name}.csv").is_file()}  # fmt: skip
    return {name: read_truth(file, [lengths[name]], **size)[0] for name, file in files.items()}
