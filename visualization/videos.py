"""Videos and filmstrips: GIF and mp4 files, videos next to each other (T frames, H x W frame size)."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from data.clips import Sequence
from data.image_files import over_white
from utils import UserError, optional_package, to_model, video_to_bytes

GAP = 2  # white pixels between two images
ZOOM = 4  # largest factor by which frames are enlarged, so that single pixels of the course's 64 x 32 are visible
MAX_ENLARGED_WIDTH = 256  # of a frame, in pixels
DEFAULT_DURATION = 100  # milliseconds for which browsers show a GIF's frame whose duration is too short or missing
SHORTEST_DURATION = 20  # milliseconds that browsers accept as the duration of a frame
FILMSTRIP_FRAMES = 10  # approximate number without --strip_every
MAX_FILMSTRIP_WIDTH = 6000  # of an enlarged filmstrip, in pixels


def frame_durations(count: int, fps: float) -> list[int]:
    """Return the duration of each frame in milliseconds.

    GIF stores hundredths of a second, so the rounding error is carried over to the next frame.
    """
    ends = [10 * round(100 * (i + 1) / fps) for i in range(count)]
    return [end - start for start, end in zip([0] + ends, ends)]


def save_gif(path: Path | BinaryIO, video: Tensor, *, fps: float) -> None:
    """Write a video (T, 3, H, W) in [0, 1], clipped, as an endless GIF that plays at `fps` frames per second (at most 50).

    Equal consecutive frames are merged into one longer frame, so readers of the file must count time instead of frames.
    """
    images = []
    for frame in video_to_bytes(video).transpose(0, 2, 3, 1):
        # The default palette of Pillow and imageio (median cut) gave a demo frame a PSNR of 36 dB, this one 45 dB.
        images.append(Image.fromarray(frame).quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE))
    durations = frame_durations(len(images), fps)
    images[0].save(path, format="GIF", save_all=True, append_images=images[1:], duration=durations, loop=0)


def save_mp4(path: Path, video: Tensor, *, fps: float) -> None:
    """Write a video (T, 3, H, W) in [0, 1], clipped, as an mp4 file in H.264 for browsers and slides.

    This needs the package av. The format requires even sides: the last row or column of an odd side is repeated.
    """
    import imageio.v3 as imageio  # takes a third of a second, which only runs that write mp4 should spend

    height, width = video.shape[-2:]
    even = functional.pad(video, (0, width % 2, 0, height % 2), mode="replicate")
    frames = video_to_bytes(even).transpose(0, 2, 3, 1)
    imageio.imwrite(path, frames, plugin="pyav", codec="libx264", fps=fps, out_pixel_format="yuv420p")


def save_videos(path: Path, video: Tensor, *, fps: float, kinds: tuple[str, ...]) -> None:
    """Write a video once for each of the suffixes `kinds`, which are appended to `path`."""
    writers: dict[str, Callable[..., None]] = {"gif": save_gif, "mp4": save_mp4}
    for kind in kinds:
        writers[kind](path.with_name(f"{path.name}.{kind}"), video, fps=fps)


def videos_to_compare(predictions: list[Tensor], sequence: Sequence) -> list[Tensor]:
    """Return the ground truth if there is one, the poses if the conditions are images, and the predictions.

    Each is (T, 3, H, W) in [0, 1].
    """
    known = [part for part in (sequence.ground_truth, sequence.conditions) if part is not None and part.dim() == 4]
    return [*(to_model(part, predictions[0].device) for part in known), *predictions]


def join_videos(videos: list[Tensor], *, dim: int) -> Tensor:
    """Return videos (T, 3, H, W) of one size joined along a dimension, with white gaps."""
    gap_shape = list(videos[0].shape)
    gap_shape[dim] = GAP
    gap = videos[0].new_ones(gap_shape)
    parts = [videos[0]]
    for video in videos[1:]:
        parts += [gap, video]
    return torch.cat(parts, dim=dim)


def draw_comparison(predictions: list[Tensor], sequence: Sequence) -> Tensor:
    """Return ground truth | pose | predictions next to each other, enlarged: (T, 3, H', W')."""
    zoom = zoom_factor(predictions[0])
    videos = videos_to_compare(predictions, sequence)
    return join_videos([functional.interpolate(video, scale_factor=zoom, mode="nearest") for video in videos], dim=-1)


def zoom_factor(video: Tensor) -> int:
    """Return the integer factor by which (..., H, W) is enlarged."""
    return max(1, min(ZOOM, MAX_ENLARGED_WIDTH // video.shape[-1]))


def save_filmstrip(path: Path, prediction: Tensor, sequence: Sequence, *, every: int | None) -> None:
    """Write a PNG with every `every`-th frame from left to right: ground truth, pose and prediction below each other.

    If `every` is None, the filmstrip has about ten frames.
    """
    every = every or max(1, len(prediction) // FILMSTRIP_FRAMES)
    rows = []
    for video in videos_to_compare([prediction], sequence):
        rows.append(join_videos(list(video[::every].unsqueeze(1)), dim=-1))
    strip = video_to_bytes(join_videos(rows, dim=-2)[0]).transpose(1, 2, 0)
    height, width = strip.shape[:2]
    zoom = max(1, min(zoom_factor(prediction), MAX_FILMSTRIP_WIDTH // width))
    Image.fromarray(np.ascontiguousarray(strip)).resize((width * zoom, height * zoom), Image.Resampling.NEAREST).save(path)


def delay_of(image: Image.Image) -> float:
    """Return the milliseconds for which browsers show an image of an animation: 100 if the file says less than 20."""
    delay = image.info.get("duration") or 0
    return delay if delay >= SHORTEST_DURATION else DEFAULT_DURATION


def shown_images(delays: Iterable[float], fps: float) -> Iterator[int]:
    """Yield the image for each frame at `fps` frames per second: one that is shown twice as long comes twice."""
    elapsed, count = 0.0, 0  # milliseconds, frames
    for i, delay in enumerate(delays):
        elapsed += delay
        while (count + 0.5) * 1000 / fps < elapsed:  # the middle of the frame's time, because the ends are rounded
            yield i
            count += 1


def gif_frames(path: Path, *, fps: float, images: int | None = None) -> Iterator[np.ndarray]:
    """Yield the frames (H, W, 3) uint8 of a GIF at `fps` frames per second, over white; `images`: only of the first ones."""
    with Image.open(path) as gif:

        def delays() -> Iterator[float]:
            for i in range(getattr(gif, "n_frames", 1) if images is None else images):
                gif.seek(i)
                gif.load()  # some formats set the duration here
                yield delay_of(gif)

        shown = None
        for i in shown_images(delays(), fps):
            if i != shown:
                shown, frame = i, np.asarray(over_white(gif)[0])
            yield frame


def read_comparison(path: Path, *, fps: float, height: int, width: int) -> np.ndarray:
    """Return the N videos that draw_comparison() joined, at their size before they were enlarged: (N, T, height, width, 3) uint8.

    The file is a GIF of `fps` frames per second or an mp4. Raises UserError for a file that cannot be read or has images of
    another size.
    """
    frames: Any
    if path.suffix == ".gif":
        frames = gif_frames(path, fps=fps)
    else:
        optional_package("av", flag=str(path))
        frames = optional_package("imageio.v3", flag=str(path)).imiter(path, plugin="pyav")
    try:
        parts = [split_comparison(frame, path, height=height, width=width) for frame in frames]
    except UserError:
        raise
    except Exception as error:  # Pillow and PyAV raise errors of many kinds for a damaged file
        raise UserError(f"{path}: cannot be read as a video ({error}); expected one that Tester.py wrote") from None
    if not parts:
        raise UserError(f"{path}: contains no visible frame; expected a video that Tester.py wrote")
    return np.stack(parts, axis=1)


def split_comparison(frame: np.ndarray, path: Path, *, height: int, width: int) -> np.ndarray:
    """Return the N images (N, height, width, 3) in a frame of a comparison (H', W', 3). Raises UserError."""
    zoom = max(1, frame.shape[0] // height)
    count, rest = divmod(frame.shape[1] + GAP, width * zoom + GAP)
    if frame.shape[0] != height * zoom or rest or not count:
        expected = f"expected images of {width} x {height} pixels, enlarged, next to each other"
        raise UserError(f"{path}: {expected}, got {frame.shape[1]} x {frame.shape[0]} pixels")
    starts = [i * (width * zoom + GAP) for i in range(count)]
    middle = zoom // 2  # of an enlarged pixel: its edges are blurred in an mp4
    return np.stack([frame[middle::zoom, start + middle : start + width * zoom : zoom] for start in starts])
