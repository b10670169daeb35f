"""Folders of numbered images."""

import re

import numpy as np
import pytest
from PIL import Image

from data.frame_cache import read_images
from data.images import numbered_images, scan_images
from tests.helpers.images import WHAT_IS_READ, write_image
from utils import UserError


def test_frames_are_ordered_by_number_not_by_name(tmp_path):
    for name in ("frame12.png", "frame9.png", "frame000100.png", "7.png", "notes.txt", ".hidden1.png"):
        (tmp_path / name).touch()
    assert [path.name for path in numbered_images(tmp_path).values()] == ["7.png", "frame9.png", "frame12.png", "frame000100.png"]


def test_digits_dots_and_spaces_in_folder_names_do_not_matter(tmp_path):
    """Code that splits paths at "/" or at digits fails on Windows and in folders like run.3/."""
    folder = tmp_path / "my data 7.5" / "frame99"
    folder.mkdir(parents=True)
    (folder / "frame4.png").touch()
    assert list(numbered_images(folder)) == [4]


def test_a_number_that_occurs_twice_is_refused(tmp_path):
    (tmp_path / "frame7.png").touch()
    (tmp_path / "frame007.png").touch()
    with pytest.raises(UserError, match="both frame 7"):
        numbered_images(tmp_path)


def test_a_name_without_number_is_refused(tmp_path):
    (tmp_path / "cover.png").touch()
    with pytest.raises(UserError, match=r"cover\.png: no frame number"):
        numbered_images(tmp_path)


def test_a_scan_separates_the_images_from_the_issues(tmp_path):
    for name in ("8.png", "frame7.png", "frame007.png", "cover.png"):
        (tmp_path / name).touch()
    images, issues, ignored = scan_images(tmp_path)
    assert images == {8: tmp_path / "8.png"} and ignored == []
    assert list(issues.by_number) == [7] and list(issues.by_name) == ["cover.png"] and len(issues.messages()) == len(issues) == 2


@pytest.mark.parametrize("name, message", [
    ("5.gif", "5.gif: expected .png, .jpg, .bmp, .webp or .tif, got .gif; convert it, or move it out of"), ("frame05.HEIC", "got .HEIC; convert it"),
    ("5.avif", "got .avif; convert it"), ("5.png.crdownload", "got .crdownload; rename it"), ("5.jpg.part", "got .part; rename it"), ("5.PNG~", "got .PNG~; rename it"),
])  # fmt: skip
def test_a_frame_of_a_type_that_is_not_read_is_an_issue(tmp_path, name, message):
    """It once vanished without a word, as a cut in the video."""
    for other in ("4.png", "6.png", "notes.txt", "5.txt", "5", "data.zip"):
        (tmp_path / other).touch()
    assert not scan_images(tmp_path).issues
    (tmp_path / name).touch()
    images, issues, ignored = scan_images(tmp_path)
    assert list(images) == [4, 6] and list(issues.by_number) == [5] and not ignored
    assert message in issues.messages()[0]
    with pytest.raises(
        UserError, match=f"^{re.escape(str(tmp_path))}: 1 image without a usable frame number; fix it:\n  .*{message}"
    ):
        numbered_images(tmp_path)


def test_other_images_that_are_not_read_are_listed_in_one_line(tmp_path, capsys):
    for name in (
        "4.png",
        "5.png",
        "5.gif",
        "preview.gif",
        "4.png.part",
        "notes.txt",
        "x.heic",
        "y.heic",
        "z.heic",
        "._4.png",
        "Thumbs.db",
    ):
        (tmp_path / name).touch()
    (tmp_path / "old").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "old" / "9.png").touch()
    assert list(numbered_images(tmp_path)) == [4, 5]
    assert (
        capsys.readouterr().err
        == f"{tmp_path}: not read as frames: 4.png.part, 5.gif, preview.gif, x.heic, y.heic and 2 more; {WHAT_IS_READ}\n"
    )


def test_endings_may_be_in_any_case_of_letters(tmp_path):
    names = ["0.PNG", "1.Png", "2.JPG", "3.jpeg", "4.WebP", "5.BMP", "6.tif", "7.TIFF"]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in numbered_images(tmp_path).values()] == names


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("ending", [".tif", ".TIFF"])
def test_tiff_has_the_pixels_of_the_same_png(tmp_path, compression, ending):
    write_image(tmp_path / "5.png", size=(16, 8), seed=3)
    with Image.open(tmp_path / "5.png") as image:
        image.save(tmp_path / f"6{ending}", "TIFF", compression=compression)
    png, tiff = numbered_images(tmp_path).values()
    pixels = [read_images([path], height=8, width=16)[0] for path in (png, tiff)]
    with Image.open(png) as image:
        assert pixels[0] == pixels[1] == np.asarray(image).transpose(2, 0, 1).tobytes()


def test_a_folder_with_the_name_of_an_image_is_not_an_image(tmp_path, capsys):
    """A folder dir5.png was counted as frame 5, and "cannot be read as an image; expected an intact PNG"."""
    for name in ("4.png", "6.png"):
        (tmp_path / name).touch()
    (tmp_path / "dir5.png").mkdir()
    (message,) = scan_images(tmp_path).issues.messages()
    assert message == f"{tmp_path / 'dir5.png'}: expected an image, got a folder; rename it, or move it out of {tmp_path.name}/"
    (tmp_path / "5.png").touch()
    assert list(numbered_images(tmp_path)) == [4, 5, 6]
    assert capsys.readouterr().err == f"{tmp_path}: not read as frames: dir5.png/; {WHAT_IS_READ}\n"


def test_images_one_folder_deeper_are_named(tmp_path):
    """The way out was to convert the folder to PNG."""
    (tmp_path / "train_img").mkdir()
    (tmp_path / "train_img" / "0.png").touch()
    with pytest.raises(UserError, match=r"holds no images; .*, got train_img/; move the images out of it$"):
        numbered_images(tmp_path)


def test_a_folder_of_images_of_another_type_says_so(tmp_path):
    for number in range(7):
        (tmp_path / f"{number}.heic").touch()
    expected = r"holds no images; .*, got 0\.heic, 1\.heic, .*, 4\.heic and 2 more; convert them to PNG"
    with pytest.raises(UserError, match=expected):
        scan_images(tmp_path)


def test_a_number_that_does_not_fit_into_64_bits_is_refused(tmp_path):
    """Such numbers once turned the array of all numbers into floats, in which adjacent numbers are equal, or made differences overflow."""
    (tmp_path / f"{2**62}.png").touch()
    assert list(numbered_images(tmp_path)) == [2**62]
    (tmp_path / f"{2**63}.png").touch()
    with pytest.raises(
        UserError, match=r"8\.png: expected a frame number of at most 4611686018427387904, got 9223372036854775808"
    ):
        numbered_images(tmp_path)
