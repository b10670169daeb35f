"""Films and animated images with faults, for the table of messages; see refusal_table.py."""

import functools
import tempfile
from pathlib import Path

from PIL import Image

from poses.footage import open_footage
from tests.helpers import video_files
from tests.helpers.faulty_data import Step, file, image, saved, steps
from tests.helpers.refusal_table import Case

FRAMES = 6
NAME = "dance.mp4"
INDEX_IN_FRONT = {"movflags": "faststart"}


def read_video(name: str, *, allow_truncated: bool = False) -> Step:
    """Read all frames of a video."""
    return lambda root: [*open_footage(root / name, allow_truncated=allow_truncated).frames()]


def write_film(path: Path, *, index_in_front: bool = True, streams: int = 1) -> Path:
    """Write a film of which each frame can be decoded by itself."""
    frames = video_files.noisy_frames(FRAMES, height=16, width=16)
    container = INDEX_IN_FRONT if index_in_front else None
    return video_files.write_video(path, frames, codec="mpeg4", options={"g": "1"}, container=container, streams=streams)


@functools.cache
def film(*, index_in_front: bool = True) -> tuple[bytes, list[range]]:
    """Return the bytes of a film, and the positions of each frame in them."""
    import av

    with tempfile.TemporaryDirectory() as folder:
        path = write_film(Path(folder, NAME), index_in_front=index_in_front)
        with av.open(str(path)) as container:
            packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
        return path.read_bytes(), [range(start, start + size) for start, size in packets]


def cut_film(frames: int) -> Step:
    """Write a film that ends within the frame after the first `frames`."""

    def write(root: Path) -> None:
        content, places = film()
        (root / NAME).write_bytes(content[: places[frames].start + 4])

    return write


def damaged_film(root: Path) -> None:
    """Write a film whose fourth frame is empty."""
    content, places = film()
    (root / NAME).write_bytes(content[: places[3].start] + bytes(len(places[3])) + content[places[3].stop :])


def film_without_index(root: Path) -> None:
    """Write a film that breaks off before the index at its end."""
    content, places = film(index_in_front=False)
    (root / NAME).write_bytes(content[: places[-1].stop])


def film_without_frames(root: Path) -> None:
    """Write the header of a film."""
    import av

    with av.open(str(root / "dance.avi"), "w") as container:
        track = container.add_stream("mpeg4", rate=25)
        track.width = track.height = 16
        track.pix_fmt = "yuv420p"
        container.start_encoding()


def animation(name: str, count: int = 4, *, delays: int | list[int] = 100, mode: str = "RGB") -> Step:
    """Write an animated image; its images are gray, or transparent if the mode allows it."""
    images = [Image.new(mode, (16, 16), (10 + 240 * i // count,) * 3 + (0,) * (mode == "RGBA")) for i in range(count)]
    settings = {"format": "PNG"} if name.endswith(".apng") else {}
    return saved(name, images[0], save_all=True, append_images=images[1:], duration=delays, **settings)


def shortened(name: str, length: int) -> Step:
    """Cut a file; a negative length is the number of bytes that are lost."""

    def cut(root: Path) -> None:
        (root / name).write_bytes((root / name).read_bytes()[:length])

    return cut


FILMS = [
    Case("a wrong path", read_video(NAME)),
    Case("an image", steps(image("dance/0.png"), read_video("dance/0.png"))),
    Case("keypoints", steps(file("dance.json", "{}"), read_video("dance.json"))),
    Case("an empty file", steps(file(NAME), read_video(NAME))),
    Case("another file with the ending of a film", steps(file(NAME, "The film is on the other disk.\n" * 20), read_video(NAME))),
    Case("a file with sound alone", steps(lambda root: video_files.write_sound(root / NAME), read_video(NAME))),
    Case("no frames", steps(film_without_frames, read_video("dance.avi"))),
    Case("a recording or a copy that was not finished", steps(film_without_index, read_video(NAME))),
    Case("a film that breaks off", steps(cut_film(4), read_video(NAME))),
    Case("a film that breaks off, with `--allow_truncated`", steps(cut_film(4), read_video(NAME, allow_truncated=True))),
    Case("a film that breaks off in its first frame", steps(cut_film(0), read_video(NAME, allow_truncated=True))),
    Case("a film with a damaged frame", steps(damaged_film, read_video(NAME))),
    Case("several films in one file", steps(lambda root: write_film(root / NAME, streams=2), read_video(NAME))),
    Case(
        "frames of several sizes",
        steps(
            saved("dance/0.png", Image.new("RGB", (16, 16))),
            saved("dance/1.png", Image.new("RGB", (32, 16))),
            read_video("dance"),
        ),
    ),
]
ANIMATIONS = [
    Case("an empty file", steps(file("dance.gif"), read_video("dance.gif"))),
    Case("another file with the ending of a GIF", steps(file("dance.gif", "not an image"), read_video("dance.gif"))),
    Case("a GIF that breaks off", steps(animation("dance.gif"), shortened("dance.gif", -5), read_video("dance.gif"))),
    Case(
        "a GIF that breaks off, with `--allow_truncated`",
        steps(animation("dance.gif"), shortened("dance.gif", -5), read_video("dance.gif", allow_truncated=True)),
    ),
    Case(
        "a GIF that breaks off in its first image",
        steps(animation("dance.gif"), shortened("dance.gif", 20), read_video("dance.gif", allow_truncated=True)),
    ),
    Case(
        "an image that is shorter than the others",
        steps(animation("dance.gif", delays=[100, 20, 100, 100]), read_video("dance.gif")),
    ),
    Case("transparent pixels", steps(animation("dance.apng", mode="RGBA"), read_video("dance.apng"))),
]
