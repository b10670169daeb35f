"""Random file names and images: each is read correctly or refused with a UserError; no unfinished file remains."""

import functools
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data.clips import sequences_hash
from data.dance import DanceSplit, load_test_sequences
from data.entries import is_system
from data.frame_cache import read_image
from data.images import SUFFIXES
from data.robot import RobotClips, RobotSplit
from tests.helpers.dance import clips_of
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


# Junk at any place of a data set.

SYSTEM_FILES = [
    ".DS_Store",
    "._0.png",
    "._actions.csv",
    ".hidden1.png",
    "Thumbs.db",
    "THUMBS.DB",
    "desktop.ini",
    "Icon\r",
    "~$actions.csv",
]
FOREIGN_FILES = [
    "notes.txt",
    "README",
    "LICENSE.md",
    "data.zip",
    "0.txt",
    "5",
    "labels.json",
    "actions.csv.bak",
    "0.npy",
    "png",
    "a.PDF",
]
SYSTEM_FOLDERS = [
    "__MACOSX",
    "@eaDir",
    "$RECYCLE.BIN",
    "lost+found",
    ".ipynb_checkpoints",
    "#recycle",
    ".git",
    "System Volume Information",
]
INSIDE = [
    "0.png",
    "9.png",
    "actions.csv",
    "train/train_img/0.png",
    "train/0/0.png",
    "test/test_label/0/0.png",
    "0/0.png",
    "val/notes.txt",
]
DOUBTFUL = ["0.gif", "2.gif", "7.heic", "preview.gif", "1.png.part", "12.JPG", "cover.png", "0.tif", "Actions.csv", "dir5.png/", "0.png.d/0.png",
            "3/", "3/0.png", "dance/0.png", "train/", "Train/0.png", "validate/", "old/train/train_img/0.png", "actions.csv"]  # fmt: skip
HARMLESS = (
    st.sampled_from(SYSTEM_FILES)
    | st.sampled_from(FOREIGN_FILES)
    | st.builds(lambda folder, name: f"{folder}/{name}", st.sampled_from(SYSTEM_FOLDERS), st.sampled_from(INSIDE))
    | st.sampled_from(SYSTEM_FOLDERS).map(lambda name: f"{name}/")
)
DANCE = [f"{split}/{split}_{part}/{i}.png" for split in ("train", "val") for part in ("img", "label") for i in range(3)]
DANCE += [
    f"test/test_{part}/{name}/{i}.png"
    for part in ("img", "label", "gt")
    for name in (0, 1)
    for i in range(1 if part == "img" else 3)
]
ROBOT = [f"{split}/traj/{name}/{i}.png" for split in ("train", "validate") for name in (9, 10) for i in range(3)]


def write_data(root: Path, files: list[str]) -> list[Path]:
    """Write images, each of its own color, and actions next to those of a robot; return all folders."""
    for number, name in enumerate(files):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(colored(number))
        if "traj" in name:
            (root / name).with_name("actions.csv").write_text("1,2\n3,4\n5,6\n")
    return sorted([root, *(path for path in root.rglob("*") if path.is_dir())])


@functools.cache
def colored(number: int) -> bytes:
    """Return a small PNG of one color."""
    file = io.BytesIO()
    Image.new("RGB", (4, 2), (number, 255 - number, 7 * number % 256)).save(file, "PNG")
    return file.getvalue()


def load_all(root: Path, files: list[str]) -> list[str]:
    """Load every split and return hashes of their content."""
    size = {"height": 8, "width": 8}
    if files is ROBOT:
        splits = [RobotSplit.load(root, split, shortest=2, **size) for split in ("train", "validate")]
        clips = [RobotClips(split=split, length=2, clips_per_epoch=1, partial=1.0, seed=1, shift=0) for split in splits]
        return [part.content_hash for part in clips]
    splits = [DanceSplit.load(root, split, **size) for split in ("train", "val")]
    return [*(clips_of(split, length=2).content_hash for split in splits), sequences_hash(load_test_sequences(root, **size))]


@pytest.mark.parametrize("files", [DANCE, ROBOT], ids=["dance", "robot"])
@pytest.mark.parametrize("names", [HARMLESS, HARMLESS | st.sampled_from(DOUBTFUL)], ids=["harmless", "doubtful"])
def test_junk_at_any_place_changes_nothing(fresh, capsys, files, names):
    """System files and plain foreign ones change nothing. Files that may be data change nothing either, or they are refused."""
    whole = fresh()
    places = [folder.relative_to(whole) for folder in write_data(whole, files)]
    expected = load_all(whole, files)
    junk = st.lists(st.tuples(st.sampled_from(places), names), min_size=1, max_size=4)

    @cases(40)
    @given(junk)
    def check(junk):
        root = fresh()
        write_data(root, files)
        for place, name in junk:
            path = root / place / name
            if name.endswith("/"):
                path.mkdir(parents=True, exist_ok=True)
            elif not path.exists() and path.parent.is_dir() | (not path.parent.exists()):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(colored(200))
        capsys.readouterr()
        found = outcome(lambda: load_all(root, files))
        lines = capsys.readouterr().err.splitlines()
        if names is HARMLESS:
            assert found == expected and lines == []
        elif isinstance(found, UserError):
            assert str(root) in found.args[0] and len(found.args[0].splitlines()) == 1
        else:
            assert found == expected and all(line.startswith(f"{root}") for line in lines) and len(lines) <= 9
        shutil.rmtree(root)

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
    """Return metadata that ask a viewer to rotate the image; the course ignores them."""
    metadata = Image.Exif()
    metadata[0x0112] = orientation
    return metadata.tobytes()


def as_pil_reads(path: Path) -> np.ndarray | None:
    """Return the image as PIL decodes and resizes it, (3, 8, 24); None if it cannot."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB").resize((24, 8), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    except Exception:
        return None


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
        expected = as_pil_reads(path)
        try:
            found = read_image(path, height=8, width=24)
        except ValueError as error:
            assert expected is None and "cannot be read as an image" in str(error) and len(str(error).splitlines()) == 1
        else:
            assert np.array_equal(found, expected) and found.dtype == np.uint8

    check()
