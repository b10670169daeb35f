"""Pictures made of video frames: GIFs and mp4, videos side by side, strips (T frames, H x W frame size)."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from data.clips import Sequence
from utils import UserError, optional_package, to_model, video_to_bytes

VIDEOS = {"gif": ("gif",), "mp4": ("mp4",), "both": ("gif", "mp4")}  # what may be asked for, and the files that come of it

GAP = 2  # white pixels between two pictures
ZOOM = 4  # course frames are 64 x 32 pixels; enlarged by whole pixels so that every one can be seen
UNSAID = 100  # milliseconds of a GIF's picture without a duration, as browsers show it
LARGE = 256  # pixels across, from which nothing is enlarged


def frame_durations(count: int, fps: float) -> list[int]:
    """Milliseconds each frame is shown; GIF knows hundredths of a second only, so the rounding error is carried on."""
    ends = [10 * round(100 * (i + 1) / fps) for i in range(count)]
    return [end - start for start, end in zip([0] + ends, ends)]


def save_gif(path: Path | BinaryIO, video: Tensor, *, fps: float) -> None:
    """Writes (T, 3, H, W) in [0, 1], clipped, as an endless GIF that plays at `fps` frames a second (at most 50).

    Equal neighbours are joined into one longer frame, so that a reader must count time and not frames.
    """
    # Pillow's and imageio's usual palette (median cut) left 36 dB of a demo frame, this one 45.
    palette = {"colors": 256, "method": Image.Quantize.MAXCOVERAGE, "dither": Image.Dither.NONE}
    images = [Image.fromarray(frame).quantize(**palette) for frame in video_to_bytes(video).transpose(0, 2, 3, 1)]
    durations = frame_durations(len(images), fps)
    images[0].save(path, format="GIF", save_all=True, append_images=images[1:], duration=durations, loop=0)


def save_mp4(path: Path, video: Tensor, *, fps: float) -> None:
    """Writes (T, 3, H, W) in [0, 1], clipped, as an H.264 video that browsers and slides play.

    Needs the package av. The format knows even sides only: an odd one gets its last row or column twice.
    """
    import imageio.v3 as imageio  # a third of a second at every start, for what few ask for

    height, width = video.shape[-2:]
    even = functional.pad(video, (0, width % 2, 0, height % 2), mode="replicate")
    frames = video_to_bytes(even).transpose(0, 2, 3, 1)
    imageio.imwrite(path, frames, plugin="pyav", codec="libx264", fps=fps, out_pixel_format="yuv420p")


def video_kinds(wish: str, *, flag: str) -> tuple[str, ...]:
    """The endings of the files that a key of VIDEOS asks for. Raises UserError if a package for them is missing."""
    if "mp4" in VIDEOS[wish]:
        optional_package("av", flag=f"{flag} {wish}")
    return VIDEOS[wish]


def save_videos(path: Path, video: Tensor, *, fps: float, kinds: tuple[str, ...]) -> None:
    """Writes a video once for each of `kinds`, as `path` with that ending."""
    for kind in kinds:
        {"gif": save_gif, "mp4": save_mp4}[kind](path.with_name(f"{path.name}.{kind}"), video, fps=fps)


def rows_of(videos: list[Tensor], sequence: Sequence) -> list[Tensor]:
    """What there is to look at: truth where it is known, poses if the conditions are pictures, the predicted videos; each
    (T, 3, H, W) in [0, 1]."""
    pictures = [part for part in (sequence.ground_truth, sequence.conditions) if part is not None and part.dim() == 4]
    return [*(to_model(part, videos[0].device) for part in pictures), *videos]


def beside(parts: list[Tensor], *, dim: int) -> Tensor:
    """Videos (T, 3, H, W) of one size joined along a side, white between them."""
    shape = list(parts[0].shape)
    shape[dim] = GAP
    white = parts[0].new_ones(shape)
    joined = [piece for part in parts for piece in (part, white)][:-1]
    return torch.cat(joined, dim=dim)


def comparison(videos: list[Tensor], sequence: Sequence) -> Tensor:
    """Truth | pose | predicted videos, enlarged: (T, 3, H', W')."""
    zoom = zoom_of(videos[0])
    parts = [functional.interpolate(part, scale_factor=zoom, mode="nearest") for part in rows_of(videos, sequence)]
    return beside(parts, dim=-1)


def zoom_of(video: Tensor) -> int:
    """How many times (..., H, W) is enlarged."""
    return max(1, min(ZOOM, LARGE // video.shape[-1]))


def save_strip(path: Path, video: Tensor, sequence: Sequence, *, every: int | None) -> None:
    """Writes a PNG with every `every`-th frame from left to right, without it some ten of them; truth, pose and prediction under
    each other."""
    every = every or max(1, len(video) // 10)
    rows = [beside(list(part[::every].unsqueeze(1)), dim=-1) for part in rows_of([video], sequence)]
    picture = video_to_bytes(beside(rows, dim=-2)[0]).transpose(1, 2, 0)
    height, width = picture.shape[:2]
    zoom = max(1, min(zoom_of(video), 6000 // width))
    Image.fromarray(np.ascontiguousarray(picture)).resize((width * zoom, height * zoom), Image.Resampling.NEAREST).save(path)


def gif_frames(path: Path, *, fps: float) -> Iterator[np.ndarray]:
    """The frames that a GIF shows at `fps` frames a second, (H, W, 3) uint8 each: one that stays for two is there twice."""
    elapsed, count = 0, 0  # milliseconds
    with Image.open(path) as gif:
        for i in range(gif.n_frames):
            gif.seek(i)
            picture = np.asarray(gif.convert("RGB"))
            elapsed += gif.info.get("duration") or UNSAID
            while (count + 0.5) * 1000 / fps < elapsed:  # asked in its middle: the ends are rounded
                yield picture
                count += 1


def read_comparison(path: Path, *, fps: float, height: int, width: int) -> np.ndarray:
    """What comparison() joined, from a GIF of `fps` frames a second or an mp4: (N, T, height, width, 3) uint8, at the size
    before it was enlarged. Raises UserError for a file that cannot be read or holds pictures of another size."""
    if path.suffix == ".gif":
        frames = gif_frames(path, fps=fps)
    else:
        optional_package("av", flag=str(path))
        frames = optional_package("imageio.v3", flag=str(path)).imiter(path, plugin="pyav")
    try:
        parts = [split(frame, path, height=height, width=width) for frame in frames]
    except UserError:
        raise
    except Exception as error:  # whatever a damaged file leads Pillow or PyAV to
        raise UserError(f"{path}: cannot be read as a video ({error}); expected what Tester.py writes") from None
    if not parts:
        raise UserError(f"{path}: holds no frame that is shown; expected what Tester.py writes")
    return np.stack(parts, axis=1)


def split(frame: np.ndarray, path: Path, *, height: int, width: int) -> np.ndarray:
    """One frame of a comparison (H', W', 3) -> its N pictures (N, height, width, 3). Raises UserError."""
    zoom = max(1, frame.shape[0] // height)
    count, rest = divmod(frame.shape[1] + GAP, width * zoom + GAP)
    if frame.shape[0] != height * zoom or rest or not count:
        found = f"{frame.shape[1]} x {frame.shape[0]} pixels"
        raise UserError(f"{path}: {found} found; expected pictures of {width} x {height}, enlarged, beside each other")
    starts = [i * (width * zoom + GAP) for i in range(count)]
    middle = zoom // 2  # of a pixel that was enlarged: the edges are blurred in an mp4
    return np.stack([frame[middle::zoom, start + middle : start + width * zoom : zoom] for start in starts])
