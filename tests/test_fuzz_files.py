"""Random file names and images: each is read correctly or refused with a UserError; no unfinished file remains."""

import functools
import io
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from data.dance import DanceSplit
from data.dance_sequences import load_test_sequences
from data.entries import is_system
from data.frame_cache import read_image
from data.image_files import open_upright
from data.images import SUFFIXES
from data.robot import RobotSplit
from tests.helpers.fuzzing import cases, damaged, names, outcome
from utils import UserError

PNG = io.BytesIO()
Image.new("RGB", (4, 2), (10, 20, 30)).save(PNG, "PNG")


# Names of images with the frame number that each should have.

LETTERS = names(max_size=6).map(lambda text: "".join(c for c in text if not c.isdecimal()))
NUMBERS = st.integers(0, 12) | st.sampled_from([10**9, 2**31, 2**62, 2**63 - 1, 2**63, 2**64 + 1, 10**40])
NUMBERED = st.builds(lambda before, n, zeros, after, suffix: (f"{before}{'0' * zeros}{n}{after}{suffix}", n), LETTERS, NUMBERS, st.integers(0, 3),
                     st.sampled_from(["", " ", " copy", "²", "½", "a.b"]), st.sampled_from([*sorted(SUFFIXES), ".PNG", ".Jpg"]))  # fmt: skip
STRANGE = st.sampled_from(
    [("cover.png", None), ("².png", None), ("½.jpg", None), ("٣.png", 3), ("7٣.png", 73), ("1" * 200 + ".png", int("1" * 200))]
)
# Names of files that are not read, with the number of the frame that each may be instead of.
UNREAD = {"1.gif": 1, "1.png.part": 1, "3.png~": 3, "cover.gif": None}
IGNORED = st.sampled_from(
    [*UNREAD, ".hidden1.png", "Thumbs.db", "notes.txt", "2", ".5.png", ".DS_Store", "._3.png", "png", "a.zip"]
)
KINDS = st.sampled_from(["image"] * 12 + ["folder", "dangling link", "loop", "link"])


def put(path: Path, kind: str) -> None:
    """Write an image, or something else with its name."""
    if kind == "folder":
        path.mkdir()
    elif kind == "image":
        path.write_bytes(PNG.getvalue())
    else:
        (path.parent.parent.parent / "elsewhere.png").write_bytes(PNG.getvalue())
        path.symlink_to(
            {"dangling link": "nowhere.png", "loop": path.name, "link": path.parent.parent.parent / "elsewhere.png"}[kind]
        )


def test_random_file_names_of_a_dance(fresh):
    @cases(120)
    @given(st.lists(NUMBERED | NUMBERED | NUMBERED | STRANGE, max_size=5, unique_by=lambda pair: pair[0]), st.lists(IGNORED, max_size=2, unique=True),
           st.lists(KINDS, min_size=10, max_size=10), st.booleans(), st.booleans())  # fmt: skip
    def check(images, ignored, kinds, same, skip_bad):
        root = fresh()
        images = [(name, number) for name, number in images if not is_system(name) and len(name.encode()) < 256]
        present: list[list[int]] = [[], []]
        unread: list[list[int | None]] = [[], []]
        whole = True
        for i, kind in enumerate(["img", "label"]):
            folder = root / "train" / f"train_{kind}"
            folder.mkdir(parents=True)
            for (name, number), what in zip(images[: None if same else len(images) - i], kinds if i == 0 else kinds[5:]):
                put(folder / name, what)
                if what == "folder":
                    unread[i].append(number)
                    continue
                present[i].append(number)
                whole &= what in ("image", "link") and number is not None and number <= 2**62
            for name in ignored:
                (folder / name).write_bytes(b"nothing")
                unread[i].append(UNREAD.get(name))
            whole &= {number for number in unread[i] if number is not None and number <= 2**62} <= {*present[i]}
        whole &= (
            bool(present[0])
            and set(present[0]) == set(present[1])
            and len(present[0]) == len(present[1])
            and len(set(present[0])) == len(present[0])
        )
        try:
            split = DanceSplit.load(root, "train", height=8, width=16, skip_bad=skip_bad)
        except UserError as error:
            assert not whole and str(root) in str(error)
            assert not list(root.rglob(".*.part"))
            return
        assert whole or skip_bad
        if whole:
            assert split.numbers.tolist() == sorted(present[0])
            assert [len(segment) for segment in split.segments(len(present[0]))] == lengths(sorted(present[0]))
        assert (split.images[:, split.usable] == np.array([10, 20, 30]).reshape(3, 1, 1)).all()

    check()


def lengths(numbers: list[int]) -> list[int]:
    """Return the lengths of the contiguous segments that sorted frame numbers form."""
    ends = [i for i, number in enumerate(numbers, start=1) if number + 1 not in numbers]
    return [end - begin for begin, end in zip([0, *ends], ends)]


def test_random_folder_names_of_sequences(fresh):
    """Folders of dance test sequences have numbers as names; folders of robot sequences may have any name."""

    @cases(40)
    @given(
        st.lists(
            names(min_size=1, max_size=6) | st.sampled_from(["0", "00", "²", "½", "1²", "a9", "a10", "٣", "1" * 100]),
            min_size=1,
            max_size=4,
            unique=True,
        )
    )
    def check(folders):
        root = fresh()
        for name in folders:
            for kind in ("test_img", "test_label"):
                (root / "test" / kind / name).mkdir(parents=True)
            (root / "train" / name).mkdir(parents=True)
            for image in (
                "test/test_img/{}/0.png",
                "test/test_label/{}/0.png",
                "test/test_label/{}/1.png",
                "train/{}/0.png",
                "train/{}/1.png",
            ):
                (root / image.replace("{}", name)).write_bytes(PNG.getvalue())
            (root / "train" / name / "actions.csv").write_text("1\n2\n")
        found = outcome(lambda: RobotSplit.load(root, "train", height=8, width=16, shortest=2))
        own = [name for name in folders if not is_system(name)]
        assert set(found.sequences) == set(own) if own else isinstance(found, UserError)
        found = outcome(lambda: load_test_sequences(root, height=8, width=16))
        whole = own and all(name.isdecimal() for name in own) and len({*map(int, own)}) == len(own)
        assert [s.name for s in found] == sorted(own, key=int) if whole else isinstance(found, UserError)

    check()


# Images of every mode, size and format, regardless of their suffix.

MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "I;16B", "F", "HSV", "LAB", "La", "RGBa", "RGBX"]
FORMATS = ["PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF", "PPM", "TGA", "PCX", "ICO", "JPEG2000", "IM", "SGI", "DDS"]


@st.composite
def images(draw) -> bytes:
    """Draw an image file, or b"" if the format does not support the mode."""
    mode, kind = draw(st.sampled_from(MODES)), draw(st.sampled_from(FORMATS[:5]) | st.sampled_from(FORMATS))
    width, height = draw(
        st.sampled_from([(1, 1), (4, 3), (64, 32), (300, 3), (3, 300), (17, 19)])
        | st.tuples(st.integers(1, 40), st.integers(1, 40))
    )
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    more = {"exif": bytes(exif_of(draw(st.integers(0, 9))))} if kind in ("PNG", "JPEG", "WEBP", "TIFF") else {}
    if draw(st.booleans()) and kind in ("PNG", "GIF"):
        more["transparency"] = (
            draw(st.sampled_from([0, 3, b"\x00\x80\xff"])) if mode == "P" else {"L": 7, "RGB": (1, 2, 3)}.get(mode, 0)
        )
    file = io.BytesIO()
    try:
        size = len(Image.new(mode, (width, height)).tobytes())
        image = Image.frombytes(mode, (width, height), rng.integers(0, 256, size, dtype=np.uint8).tobytes())
        if mode in ("P", "PA"):
            image.putpalette(rng.integers(0, 256, 3 * draw(st.sampled_from([4, 256])), dtype=np.uint8).tobytes())
        image.save(file, kind, **more)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        SystemError,
    ):  # which the writers raise for unsupported modes
        return b""
    return file.getvalue()


@functools.cache
def exif_of(orientation: int) -> bytes:
    """Return metadata that ask a viewer to turn the image."""
    metadata = Image.Exif()
    metadata[0x0112] = orientation
    return metadata.tobytes()


def as_pil_reads(path: Path) -> np.ndarray | None:
    """Return the pixels (H, W, 3) that PIL gives at 8 bits, upright and over white; None if it cannot read the image."""
    try:
        with Image.open(path) as image:
            image.load()
    except Exception:
        return None
    try:
        turned = ImageOps.exif_transpose(image)
    except Exception:  # damaged metadata
        turned = image
    if image.mode.startswith("I"):
        gray = np.rint(np.asarray(turned).astype(float) / 65535 * 255).astype(np.uint8)
        opaque = np.asarray(turned) != image.info.get("transparency", -1)
        return np.where(opaque, gray, 255)[..., None].repeat(3, 2)
    turned = turned.convert("LA") if image.mode == "La" else turned
    pixels = np.asarray(turned.convert("RGBA")).astype(float)
    color, alpha = pixels[..., :3], pixels[..., 3:] / 255
    return np.where(alpha == 1, np.asarray(turned.convert("RGB")), np.floor(color * alpha + 255 * (1 - alpha) + 0.5)).astype(
        np.uint8
    )


REFUSED = re.compile(r"cannot be read as an image|expected 8 or 16 bits per channel, got (floating-point|32-bit) pixels")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("whole, count", [(True, 150), (False, 250)])
def test_random_images(fresh, whole, count):
    """For a damaged file, PIL may raise any exception; read_image() raises only ValueError."""
    folder = fresh()

    @cases(count)
    @given(st.data())
    def check(data):
        path = folder / f"image{data.draw(st.sampled_from(sorted(SUFFIXES)))}"
        content = data.draw(images())
        if not whole:
            content = damaged(content or PNG.getvalue(), data.draw)
        path.write_bytes(content)
        try:
            image = open_upright(path).image
        except ValueError as error:
            assert REFUSED.match(str(error)) and len(str(error).splitlines()) == 1
            assert as_pil_reads(path) is None or "whose range is unknown" in str(error)
        else:
            assert np.array_equal(np.asarray(image), as_pil_reads(path))
            resized = image.resize((24, 8), Image.Resampling.BILINEAR)
            assert np.array_equal(read_image(path, height=8, width=24).pixels, np.asarray(resized).transpose(2, 0, 1))

    check()
