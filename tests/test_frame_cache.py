"""The frame cache: what it contains, when it is rebuilt, and failures while it is written."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torchvision.transforms as transforms
from PIL import Image

from data import frame_cache
from data.frame_cache import BadImages, CachedFrames, cached_frames, read_image
from data.image_files import FolderRemark
from tests.helpers.images import write_image
from tests.helpers.png_files import RGBA, write_png
from tests.helpers.settings import ROOT
from utils import UserError


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    return [write_image(tmp_path / "data" / f"{i}.png", seed=i) for i in range(5)]


def open_or_build(paths, **flags) -> CachedFrames:
    return cached_frames(paths, **{"root": paths[0].parent, "name": "train", "height": 32, "width": 64} | flags)


def load(paths, **flags) -> np.ndarray:
    return open_or_build(paths, **flags).images


def cache_files(paths) -> list[Path]:
    return sorted((paths[0].parent / frame_cache.FOLDER).iterdir())


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "LA", "1"])
@pytest.mark.parametrize("size", [(1024, 512), (64, 32), (50, 70)])
def test_an_image_is_resized_as_the_course_does(tmp_path, mode, size):
    path = write_image(tmp_path / "image.png", size=size, mode=mode)
    course = transforms.Compose([transforms.Resize((32, 64)), transforms.ToTensor()])
    expected = (course(Image.open(path).convert("RGB")).numpy() * 255).round().astype(np.uint8)
    assert np.array_equal(read_image(path, height=32, width=64).pixels, expected)


def test_the_cache_holds_the_images_in_order(paths):
    frames = load(paths)
    assert frames.shape == (5, 3, 32, 64) and frames.dtype == np.uint8 and not frames.flags.writeable
    for path, frame in zip(paths, frames):
        assert np.array_equal(frame, np.asarray(Image.open(path)).transpose(2, 0, 1))


def test_a_valid_cache_is_used_without_touching_an_image(paths, monkeypatch):
    """Without a cache, decoding 1024x512 PNGs again in every epoch made training wait for the disk."""
    first = load(paths).copy()
    monkeypatch.setattr(frame_cache, "read_image", lambda *_, **__: pytest.fail("an image was decoded"))
    assert np.array_equal(load(paths), first)


@pytest.mark.parametrize("change", ["rewritten", "added", "removed", "renamed", "size"])
def test_a_changed_file_leads_to_a_new_cache(paths, change):
    load(paths)
    flags = {}
    if change == "rewritten":
        before = paths[2].stat()
        write_image(paths[2], seed=99)
        os.utime(paths[2], ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    elif change == "added":
        paths.append(write_image(paths[0].parent / "9.png", seed=9))
    elif change == "removed":
        paths.pop()
    elif change == "renamed":
        paths[4] = paths[4].rename(paths[4].with_name("8.png"))
    else:
        flags = {"height": 16, "width": 32}
    frames = load(paths, **flags)
    assert len(frames) == len(paths)
    assert np.array_equal(frames[2], read_image(paths[2], height=frames.shape[2], width=frames.shape[3]).pixels)
    # A cache of another size is kept next to the old one; a cache of changed images replaces the old one.
    assert len(cache_files(paths)) == (2 if change == "size" else 1)


def spoiled(whole: bytes, damage: str) -> bytes:
    trailer = int.from_bytes(whole[-8:], "little") + 8
    return {
        "cut": whole[:-1000], "one byte short": whole[:-1], "one byte more": whole + b"x", "empty": b"", "foreign": b"something else",
        "no trailer": whole[:-trailer], "other shape": whole.replace(b"(5, 3, 32, 64)", b"(5, 3, 64, 32)"),
        "trailer of something else": whole[:-trailer] + b"[1, 2]" + (6).to_bytes(8, "little"),
    }[damage]  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_a_link_to_itself_is_an_image_that_cannot_be_read(paths):
    """stat() raises another error for it than for a broken link. That error once ended the program even with --skip_bad."""
    paths[2].unlink()
    paths[2].symlink_to(paths[2].name)
    with pytest.raises(BadImages, match=r"2\.png: cannot be read as an image \(Too many levels"):
        load(paths)
    assert list(open_or_build(paths, skip_bad=True).bad) == [2]


DAMAGES = ["cut", "one byte short", "one byte more", "empty", "foreign", "no trailer", "other shape", "trailer of something else"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_built_again(paths, damage):
    expected = load(paths).copy()
    (file,) = cache_files(paths)
    whole = file.read_bytes()
    file.write_bytes(spoiled(whole, damage))
    assert np.array_equal(load(paths), expected)
    assert file.read_bytes() == whole


def test_a_cache_of_other_images_is_not_accepted_by_its_name(paths, tmp_path):
    """A cache was once identified by its name only, so one copied from a data set with as many frames was accepted."""
    others = [write_image(tmp_path / "other" / f"{i}.png", seed=50 + i) for i in range(5)]
    expected = load(others).copy()
    load(paths)
    shutil.copy(cache_files(paths)[0], cache_files(others)[0])
    assert np.array_equal(load(others), expected)


def test_a_cache_of_an_earlier_format_is_removed(paths, monkeypatch):
    monkeypatch.setattr(frame_cache, "FORMAT", frame_cache.FORMAT - 1)
    load(paths)
    (earlier,) = cache_files(paths)
    monkeypatch.undo()
    load(paths)
    assert len(cache_files(paths)) == 1 and not earlier.exists()


def test_the_digest_is_that_of_the_pixels(paths, tmp_path):
    """It does not depend on the names and folders of the files, and is also known when an existing cache is opened."""
    pixels = b"".join(np.asarray(Image.open(path)).transpose(2, 0, 1).tobytes() for path in paths)
    elsewhere = [Path(shutil.copy(path, tmp_path / f"copy-{path.name}")) for path in paths]
    found = {open_or_build(files).digest for files in (paths, paths, elsewhere)}
    assert found == {hashlib.sha256(pixels).hexdigest()}


def test_remarks_on_images_are_known_without_decoding_them_again(paths, monkeypatch):
    """They are in the cache file, relative to the data set, which may be moved together with its cache."""
    folder = paths[0].parent
    for name in ("a/0.png", "b/c/0.png"):
        (folder / name).parent.mkdir(parents=True)
        paths.append(write_png(folder / name, [[[0, 0, 0, 0]]], depth=8, kind=RGBA))
    expected = [FolderRemark("transparent", 2, "")]
    assert open_or_build(paths).remarks == expected
    monkeypatch.setattr(frame_cache, "read_image", lambda *_, **__: pytest.fail("an image was decoded"))
    assert open_or_build(paths).remarks == expected
    monkeypatch.undo()
    assert open_or_build(paths[:-1]).remarks == [FolderRemark("transparent", 1, "a")]
    assert open_or_build(paths[:5]).remarks == []


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def test_all_damaged_images_are_named_and_no_file_remains(paths):
    for i in (1, 3):
        damage(paths[i])
    for _ in range(2):  # the second attempt finds the same damage
        with pytest.raises(BadImages, match="2 of 5") as raised:
            load(paths)
        assert list(raised.value.bad) == [1, 3] and cache_files(paths) == []
        assert all(
            problem.startswith(f"{paths[i]}: cannot be read as an image (") for i, problem in zip((1, 3), raised.value.problems)
        )


def test_damaged_images_can_be_skipped(paths, monkeypatch):
    """They are black, and only they are decoded again. Without skip_bad, the same cache is refused."""
    damage(paths[3])
    expected = [np.zeros((3, 32, 64), np.uint8) if i == 3 else read_image(paths[i], height=32, width=64).pixels for i in range(5)]
    first = open_or_build(paths, skip_bad=True)
    assert np.array_equal(first.images, np.stack(expected)) and list(first.bad) == [3]
    tried, decode = [], read_image
    monkeypatch.setattr(frame_cache, "read_image", lambda path, **size: tried.append(path) or decode(path, **size))
    again = open_or_build(paths, skip_bad=True)
    assert tried == [paths[3]] and again.bad == first.bad and again.digest == first.digest
    with pytest.raises(BadImages, match=r"1 of 5 images cannot be decoded:\n  .*3\.png: cannot be read as an image"):
        load(paths)
    assert tried == [paths[3]] * 2


@pytest.mark.parametrize("skip_bad", [True, False])
def test_an_image_that_becomes_readable_enters_the_cache(paths, monkeypatch, skip_bad):
    """A network disk may fail temporarily while the cache is built; the file itself never changes."""
    decode = read_image

    def hiccup(path, **size):
        if path == paths[2]:
            raise ValueError("cannot be read")
        return decode(path, **size)

    monkeypatch.setattr(frame_cache, "read_image", hiccup)
    assert open_or_build(paths, skip_bad=True).bad == {2: "cannot be read"}
    monkeypatch.undo()
    cached = open_or_build(paths, skip_bad=skip_bad)
    assert cached.bad == {} and np.array_equal(cached.images[2], decode(paths[2], height=32, width=64).pixels)


def test_a_broken_link_is_a_damaged_image(paths):
    paths[1].unlink()
    try:
        paths[1].symlink_to("nowhere.png")
    except OSError:
        pytest.skip("this machine cannot create links")
    with pytest.raises(BadImages, match=r"1\.png: cannot be read as an image \(No such file"):
        load(paths)


@pytest.mark.parametrize("place", ["header", "trailer"])
def test_a_full_disk_is_reported_and_no_file_remains(paths, monkeypatch, place):
    def full(*_):
        raise OSError(28, "No space left on device")

    if place == "header":
        monkeypatch.setattr(frame_cache, "write_array_header_1_0", full)
    else:
        monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\); free some space, or .* --cache_dir$"):
        load(paths)
    assert cache_files(paths) == []


def test_a_cache_folder_that_vanishes_is_reported(paths, monkeypatch):
    decode, folder = read_image, paths[0].parent / frame_cache.FOLDER

    def vanish(path, **size):
        if path == paths[2]:
            shutil.rmtree(folder)
        return decode(path, **size)

    monkeypatch.setattr(frame_cache, "read_image", vanish)
    with pytest.raises(UserError, match=r"\.frame_cache: the frame cache of 1 MB cannot be written \(No such file"):
        load(paths)
    assert not folder.exists()


def test_only_unfinished_files_of_killed_builds_are_removed(paths):
    """The unfinished file of a killed build, which can have 16 GB, was once never removed. That of a running build is kept."""
    code = (
        "import sys, time; from pathlib import Path; from data import frame_cache\n"
        "frame_cache.read_image = lambda *_, **__: time.sleep(600)\n"
        "root = Path(sys.argv[1])\n"
        "frame_cache.cached_frames(sorted(root.glob('*.png')), root=root, name='train', height=32, width=64)"
    )
    folder = paths[0].parent / frame_cache.FOLDER
    run = subprocess.Popen([sys.executable, "-c", code, str(paths[0].parent)], cwd=ROOT)
    try:
        deadline = time.monotonic() + 240
        while not list(folder.glob(".*.part")) and time.monotonic() < deadline:
            time.sleep(0.05)
        (part,) = folder.glob(".*.part")
        load(paths)
        assert part.exists()
    finally:
        run.kill()
        run.wait()
    if os.name == "nt":  # there is no way to check whether a process is alive
        os.utime(part, (0, 0))
    load(paths)
    assert not part.exists() and len(cache_files(paths)) == 1


@pytest.mark.parametrize("name", [".train-32x64-0.npy@another.machine@1@1.part", ".train-32x64-0.npy.1-1.part", ".a@b@c@d.part"])
def test_an_unfinished_file_of_unknown_origin_is_removed_after_an_hour(paths, name):
    load(paths)
    part = paths[0].parent / frame_cache.FOLDER / name
    for age, kept in [(3000, True), (4000, False)]:
        part.touch()
        os.utime(part, (time.time() - age,) * 2)
        load(paths)
        assert part.exists() == kept


@pytest.mark.skipif(os.name == "nt", reason="Windows does not remove open files")
def test_an_open_cache_outlives_the_change_of_its_images(paths):
    """A training run keeps the pixels it started with while another process rebuilds the cache."""
    running = load(paths)
    before = running.copy()
    (file,) = cache_files(paths)
    for path in paths:
        write_image(path, size=(65, 32), seed=77)
    assert not np.array_equal(load(paths), before) and not file.exists()
    assert np.array_equal(running, before)


def test_two_processes_that_start_together_both_get_the_complete_cache(tmp_path):
    folder = tmp_path / "data"
    for i in range(60):
        write_image(folder / f"{i}.png", size=(256, 128), seed=i)
    code = (
        "import sys; from pathlib import Path; from data.frame_cache import cached_frames\n"
        "root = Path(sys.argv[1]); paths = sorted(root.glob('*.png'))\n"
        "print(cached_frames(paths, root=root, name='train', height=32, width=64).images.sum())"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    sums = [run.communicate()[0].strip() for run in runs]
    assert sums[0] == sums[1] != "" and [run.returncode for run in runs] == [0, 0]
    assert len(list((folder / frame_cache.FOLDER).iterdir())) == 1


def test_data_that_cannot_be_written_is_cached_in_the_users_folder(paths, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "home"))
    (paths[0].parent / frame_cache.FOLDER).write_text("in the way, as a read-only folder would be")
    load(paths)
    assert len(list((tmp_path / "home").rglob("*.npy"))) == 1
    monkeypatch.setattr(frame_cache, "read_image", lambda *_, **__: pytest.fail("an image was decoded"))
    load(paths)
    # If no folder can be written, the message names the way out.
    shutil.rmtree(tmp_path / "home")
    (tmp_path / "home").write_text("in the way")
    with pytest.raises(UserError, match="--cache_dir"):
        load(paths)


def test_a_chosen_folder_is_used(paths, tmp_path):
    load(paths, folder=tmp_path / "chosen")
    assert len(list((tmp_path / "chosen").rglob("train-32x64-*.npy"))) == 1
    assert not (paths[0].parent / frame_cache.FOLDER).exists()


def test_two_data_sets_can_share_a_chosen_folder(paths, tmp_path, monkeypatch):
    """Both have a split called train. Neither may take the other's file for an outdated file of its own and remove it."""
    others = [write_image(tmp_path / "other" / "1.png", seed=7)]
    load(paths, folder=tmp_path / "chosen")
    load(others, folder=tmp_path / "chosen")
    monkeypatch.setattr(frame_cache, "read_image", lambda *_, **__: pytest.fail("an image was decoded"))
    assert len(load(paths, folder=tmp_path / "chosen")) == 5 and len(load(others, folder=tmp_path / "chosen")) == 1


def test_the_course_data_fit_in_300_megabytes(paths):
    """The course has 23,410 frames and as many poses. The file consists of their pixels, a short header and a short trailer."""
    load(paths)
    (file,) = cache_files(paths)
    more = file.stat().st_size - 5 * 3 * 32 * 64
    assert 2 * 23_410 * 3 * 32 * 64 + more < 300e6
