"""The one rule for reading images, with the value of every pixel, whichever part of the project reads them."""

import re
import struct

import numpy as np
import pytest
from PIL import Image

from data import image_files
from data.frame_cache import read_image
from data.image_files import open_upright, over_white, read_upright
from poses.footage import open_footage
from poses.pose_images import PoseImages
from poses.transfer import Placement, first_frame, image_source
from tests.helpers.png_files import GRAY, GRAY_ALPHA, PALETTE, RGB, RGBA, transparent, write_png
from utils import UserError

COLORS = b"PLTE", bytes([10, 20, 30, 40, 50, 60, 70, 80, 90, 1, 2, 3])


@pytest.fixture(autouse=True)
def forget_printed(monkeypatch):
    """Forget which remarks an earlier test printed."""
    monkeypatch.setattr(image_files, "PRINTED", set())


def pixels_of(path) -> list:
    return np.asarray(open_upright(path).image).tolist()


def cached(path) -> np.ndarray:
    image = Image.open(path)
    return read_image(path, height=image.height, width=image.width).pixels.transpose(1, 2, 0)


def posed(path) -> np.ndarray:
    image = Image.open(path)
    return np.asarray(image_source([path], image.height, image.width).draw(0, Placement(1.0, 0.0, 0.0)))


READERS = {
    "frame cache": cached,
    "film of images": lambda path: next(open_footage(path.parent).frames()),
    "first frame": lambda path: first_frame(path, height=Image.open(path).height, width=Image.open(path).width)[0].permute(1, 2, 0).numpy(),
    "pose image": posed,
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_gives_16_bit_gray_its_true_value(tmp_path, reader):
    """PIL clips it at 255: a training once saw white images only, where prepare_video.py saw the right ones."""
    values = [0, 1, 128, 129, 1000, 32767, 32768, 65279, 65535]
    path = write_png(tmp_path / "0.png", [values], depth=16, kind=GRAY)
    assert READERS[reader](path)[0].tolist() == [[round(value / 65535 * 255)] * 3 for value in values]


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_lays_transparent_pixels_over_white(tmp_path, reader):
    """Black limbs on a transparent background, whose hidden color is black, once became an entirely black pose image."""
    path = write_png(tmp_path / "0.png", [[[0, 0, 0, 0], [0, 0, 0, 255], [200, 100, 0, 51]]], depth=8, kind=RGBA)
    assert READERS[reader](path).tolist() == [[[255] * 3, [0] * 3, [244, 224, 204]]]


TURNS = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1], 5: lambda a: a.transpose(1, 0, 2),
         6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1, ::-1].transpose(1, 0, 2), 8: lambda a: np.rot90(a),
         0: lambda a: a, 9: lambda a: a}  # fmt: skip


def exif(orientation: int) -> bytes:
    metadata = Image.Exif()
    metadata[0x0112] = orientation
    return metadata.tobytes()


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("suffix, how", [("png", {}), ("jpg", {"quality": 95, "subsampling": 0}), ("webp", {"lossless": True})])
def test_photographs_are_upright(tmp_path, suffix, how, orientation):
    """The frame cache once ignored the orientation that phones write, and prepare_video.py followed it."""
    gray = np.array([[0, 80, 160], [200, 240, 40]], dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    stored = gray[..., None].repeat(3, 2)
    path = tmp_path / f"0.{suffix}"
    Image.fromarray(stored).save(path, exif=exif(orientation), **how)
    expected = TURNS[orientation](stored).astype(int)
    image = open_upright(path).image
    assert np.asarray(image).shape == expected.shape and np.abs(np.asarray(image) - expected).max() <= (
        3 if suffix == "jpg" else 0
    )
    frame = read_image(path, height=image.height, width=image.width).pixels
    assert np.array_equal(frame.transpose(1, 2, 0), np.asarray(image))


def test_16_bits_transparency_and_orientation_at_once(tmp_path):
    path = write_png(tmp_path / "0.png", [[0, 1000, 65535]], depth=16, kind=GRAY, chunks=[transparent(0), (b"eXIf", exif(6)[6:])])
    assert pixels_of(path) == [[[255] * 3], [[4] * 3], [[255] * 3]]
    assert open_upright(path).remarks == ("transparent",)


def test_an_orientation_in_xmp_is_followed(tmp_path):
    Image.new("RGB", (4, 2)).save(
        tmp_path / "0.jpg", xmp=b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'
    )
    assert open_upright(tmp_path / "0.jpg").image.size == (2, 4)


def test_damaged_metadata_do_not_matter(tmp_path):
    Image.new("RGB", (4, 2), (9, 8, 7)).save(tmp_path / "0.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\1")
    assert pixels_of(tmp_path / "0.png") == [[[9, 8, 7]] * 4] * 2


W, B = [255] * 3, [0] * 3
TRANSPARENCY = {
    "RGBA": ([[[9, 8, 7, 255], [9, 8, 7, 0], [200, 0, 100, 128]]], 8, RGBA, [], [[9, 8, 7], W, [227, 127, 177]]),
    "LA": ([[[9, 255], [9, 0], [0, 128]]], 8, GRAY_ALPHA, [], [[9] * 3, W, [127] * 3]),
    "16-bit RGBA": ([[[0, 0, 0, 65535], [0, 0, 0, 0], [65535, 0, 0, 32768]]], 16, RGBA, [], [B, W, [255, 127, 127]]),
    "16-bit LA": ([[[0, 65535], [0, 0], [0, 32768]]], 16, GRAY_ALPHA, [], [B, W, [127] * 3]),
    "palette": ([[0, 1, 2]], 8, PALETTE, [COLORS, (b"tRNS", bytes([0, 255, 51]))], [W, [40, 50, 60], [218, 220, 222]]),
    "one index of 4 bits": ([[0, 1, 2]], 4, PALETTE, [COLORS, (b"tRNS", bytes([255, 0]))], [[10, 20, 30], W, [70, 80, 90]]),
    "one index of 1 bit": ([[0, 1, 0]], 1, PALETTE, [COLORS, (b"tRNS", bytes([0]))], [W, [40, 50, 60], W]),
    "RGB color": ([[[1, 2, 3], [1, 2, 4], [0, 0, 0]]], 8, RGB, [transparent(1, 2, 3)], [W, [1, 2, 4], B]),
    "gray value": ([[5, 6, 0]], 8, GRAY, [transparent(5)], [W, [6] * 3, B]),
    "gray value of 4 bits": ([[5, 6, 0]], 4, GRAY, [transparent(5)], [W, [102] * 3, B]),
    "gray value of 2 bits": ([[1, 2, 0]], 2, GRAY, [transparent(1)], [W, [170] * 3, B]),
    "gray value of 1 bit": ([[0, 1, 0]], 1, GRAY, [transparent(0)], [W, W, W]),
    "gray value of 16 bits": ([[1285, 1286, 0]], 16, GRAY, [transparent(1285)], [W, [5] * 3, B]),
}


@pytest.mark.parametrize("kind", TRANSPARENCY)
def test_every_kind_of_transparency_of_a_png(tmp_path, kind):
    """PIL neither scales a transparent gray value of 2 or 4 bits, nor drops the pixels with a transparent color in convert("RGB")."""
    samples, depth, color, chunks, expected = TRANSPARENCY[kind]
    path = write_png(tmp_path / "0.png", samples, depth=depth, kind=color, chunks=chunks)
    image, remarks = open_upright(path)
    assert np.asarray(image).tolist() == [expected] and remarks == ("transparent",)


@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette", "gray value"])
def test_transparency_that_no_pixel_uses_is_not_mentioned(tmp_path, kind):
    samples, depth, color, chunks = {
        "RGBA": ([[[9, 8, 7, 255]]], 8, RGBA, []), "LA": ([[[9, 255]]], 8, GRAY_ALPHA, []),
        "palette": ([[1]], 8, PALETTE, [COLORS, (b"tRNS", bytes([0, 255, 51]))]), "gray value": ([[7]], 8, GRAY, [transparent(5)]),
    }[kind]  # fmt: skip
    path = write_png(tmp_path / "0.png", samples, depth=depth, kind=color, chunks=chunks)
    image, remarks = open_upright(path)
    assert remarks == () and np.array_equal(np.asarray(image), np.asarray(Image.open(path).convert("RGB")))


def test_transparency_of_other_formats_and_modes(tmp_path):
    """Premultiplied pixels, a palette with alpha of its own, and WebP."""
    red = Image.new("RGBA", (2, 1), (200, 0, 100, 128))
    for name, image in [
        ("RGBa", red.convert("RGBa")),
        ("La", Image.new("LA", (2, 1), (0, 128)).convert("La")),
        ("PA", red.convert("PA")),
    ]:
        rgb, found = over_white(image)
        assert found and np.abs(
            np.array(rgb.getpixel((0, 0))) - ([227, 127, 177] if name != "La" else [127] * 3)
        ).max() <= 1 + 4 * (name == "PA")
    red.save(tmp_path / "0.webp", lossless=True)
    assert pixels_of(tmp_path / "0.webp") == [[[227, 127, 177]] * 2]


@pytest.mark.parametrize("kind, mode", [("TIFF", "I;16"), ("TIFF", "I;16B"), ("JPEG2000", "I;16"), ("PPM", "I;16")])
def test_16_bits_of_other_formats(tmp_path, kind, mode):
    """PIL gives them several modes; the suffix does not matter to it."""
    values = [0, 1000, 32768, 65535]
    image = Image.frombytes(mode, (4, 1), np.array(values, dtype=">u2" if mode == "I;16B" else "<u2").tobytes())
    image.save(tmp_path / "0.png", kind)
    assert pixels_of(tmp_path / "0.png") == [[[round(value / 65535 * 255)] * 3 for value in values]]


def test_12_bits_in_16(tmp_path):
    """Such a TIFF uses a sixteenth of the range of 16 bits."""
    entries = [
        (256, 3, 2),
        (257, 3, 1),
        (258, 3, 12),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, 1),
        (279, 4, 3),
    ]
    tags = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    (tmp_path / "0.png").write_bytes(b"II*\0" + struct.pack("<I", 12) + bytes([0xFF, 0xF0, 0x10, 0]) + tags + bytes(4))
    assert pixels_of(tmp_path / "0.png") == [[W, [round(16 / 4095 * 255)] * 3]]


def test_16_bit_colors_are_those_of_the_course(tmp_path):
    """PIL keeps their upper 8 bits."""
    path = write_png(tmp_path / "0.png", [[[0, 255, 256], [32768, 65279, 65535]]], depth=16, kind=RGB)
    assert pixels_of(path) == [[[0, 0, 1], [128, 254, 255]]] == np.asarray(Image.open(path).convert("RGB")).tolist()


@pytest.mark.parametrize("depth, scale", [(1, 255), (2, 85), (4, 17), (8, 1)])
def test_gray_of_few_bits_uses_the_whole_range(tmp_path, depth, scale):
    values = list(range(min(2**depth, 16)))
    path = write_png(tmp_path / "0.png", [values], depth=depth, kind=GRAY)
    assert pixels_of(path) == [[[scale * value] * 3 for value in values]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV", "RGBX"])
def test_opaque_modes_are_converted_as_the_course_does(mode):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8))
    image = (
        noise.convert("HSV" if mode == "HSV" else mode)
        if mode != "RGBX"
        else Image.merge("RGBX", [*noise.split(), noise.getchannel(0)])
    )
    rgb, found = over_white(image)
    assert not found and np.array_equal(np.asarray(rgb), np.asarray(image.convert("RGB")))


def test_a_cmyk_jpeg_has_its_colors(tmp_path):
    """Adobe and PIL store them inverted."""
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "0.jpg", quality=95)
    assert np.abs(np.array(pixels_of(tmp_path / "0.jpg")) - [255, 0, 0]).max() <= 3


def refusal(path) -> str:
    with pytest.raises(UserError) as error:
        read_upright(path)
    with pytest.raises(ValueError, match=re.escape(str(error.value).removeprefix(f"{path}: "))):
        read_image(path, height=8, width=8)
    return str(error.value)


@pytest.mark.parametrize("mode, kind", [("F", "floating-point"), ("I", "32-bit")])
def test_pixels_of_unknown_range_are_refused(tmp_path, mode, kind):
    """PIL clips them at 255: values in [0, 1] become black."""
    Image.new(mode, (4, 2), 1).save(tmp_path / "0.png", "TIFF")
    expected = f"expected 8 or 16 bits per channel, got {kind} pixels, whose range is unknown; convert it to 8 bits"
    assert refusal(tmp_path / "0.png") == f"{tmp_path / '0.png'}: {expected}"


def test_a_transparent_16_bit_color_is_refused(tmp_path):
    """PIL reduces the pixels to 8 bits, but not the color, and no pixel has it then."""
    path = write_png(tmp_path / "0.png", [[[1, 2, 3]]], depth=16, kind=RGB, chunks=[transparent(1, 2, 3)])
    assert refusal(path) == f"{path}: expected 8 bits per channel, got 16 bits with a transparent color; convert it to RGBA"


def test_a_mode_that_cannot_be_converted_is_refused(tmp_path, monkeypatch):
    def convert(self, mode, *_):
        raise ValueError("conversion not supported")

    Image.new("LAB", (4, 2)).save(tmp_path / "0.png", "TIFF")
    monkeypatch.setattr(Image.Image, "convert", convert)
    assert refusal(tmp_path / "0.png").endswith("0.png: expected RGB, gray, palette or CMYK pixels, got LAB; convert it to RGB")


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    assert re.search(r"0\.png: cannot be read as an image \(.+\); copy or save it again$", refusal(tmp_path / "0.png"))
    (tmp_path / "1.png").mkdir()
    assert "1.png: cannot be read as an image (" in refusal(tmp_path / "1.png")


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "gif"])
def test_of_an_animation_the_first_image_is_used(tmp_path, capsys, suffix):
    images = [Image.new("RGB", (2, 1), color) for color in ("red", "blue", "green")]
    for number in (3, 4):
        more = {"lossless": True} if suffix == "webp" else {}
        images[0].save(tmp_path / f"{number}.{suffix}", save_all=True, append_images=images[1:], **more)
        assert read_upright(tmp_path / f"{number}.{suffix}").tolist() == [[[255, 0, 0]] * 2]
    assert (
        capsys.readouterr().err
        == f"{tmp_path}: of an animation, only the first image is used (first in 3.{suffix}); to use the others, save each as an image of its own\n"
    )


def test_of_a_tiff_that_is_damaged_after_its_first_page_the_first_page_is_used(tmp_path):
    pages = [Image.fromarray(np.full((8, 8, 3), value, dtype=np.uint8)) for value in (10, 20)]
    pages[0].save(tmp_path / "0.tif", save_all=True, append_images=pages[1:])
    whole = (tmp_path / "0.tif").read_bytes()
    for length in range(len(whole) - 150, len(whole), 10):
        (tmp_path / "1.tif").write_bytes(whole[:length])
        try:
            assert (read_upright(tmp_path / "1.tif") == 10).all()
        except UserError as error:
            assert "copy or save it again" in str(error)


def test_the_further_views_of_a_phones_photograph_are_not_mentioned(tmp_path):
    views = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    views[0].save(tmp_path / "0.jpg", "MPO", save_all=True, append_images=views[1:])
    assert open_upright(tmp_path / "0.jpg").remarks == ()


def test_a_film_of_transparent_images_says_so_once(tmp_path, capsys):
    for t in range(4):
        write_png(tmp_path / f"{t}.png", [[[9, 8, 7, 255 if t == 0 else 0]]], depth=8, kind=RGBA)
    footage = open_footage(tmp_path)
    for _ in range(2):  # prepare_video.py reads every film several times
        assert [frame.tolist() for frame in footage.frames()] == [[[[9, 8, 7]]], *[[[W]]] * 3]
    assert (
        capsys.readouterr().err
        == f"{tmp_path}: transparent pixels are laid over white (first in 1.png); for another background, save opaque images\n"
    )


def test_pose_images_may_lie_on_their_side(tmp_path):
    """Their size is that of the upright images, and their background is white."""
    for t in range(3):
        stored = np.zeros((4, 8, 4), dtype=np.uint8)
        stored[1, 2, 3] = 255
        Image.fromarray(stored).save(tmp_path / f"{t}.png", exif=exif(6))
    images = PoseImages.load(tmp_path).matched_to([5, 6, 7], height=16, width=8)
    assert images.scale == (0.5, 0.5) and images.count_blank() == 0
    assert [np.argwhere(drawing).tolist() for drawing in images.drawings()] == [[[2, 2]]] * 3
