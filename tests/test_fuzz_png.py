"""Random PNG files of every color type, depth, transparency and orientation, written bit by bit: each pixel has its value."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data.frame_cache import read_image
from data.image_files import open_upright
from tests.helpers.fuzzing import cases
from tests.helpers.png_files import GRAY, GRAY_ALPHA, PALETTE, RGB, RGBA, transparent, write_png

CHANNELS = {GRAY: 1, RGB: 3, PALETTE: 1, GRAY_ALPHA: 2, RGBA: 4}
DEPTHS = {GRAY: [1, 2, 4, 8, 16], RGB: [8, 16], PALETTE: [1, 2, 4, 8], GRAY_ALPHA: [8, 16], RGBA: [8, 16]}
# How viewers must turn stored pixels (H, W, C), in the order of the EXIF values from 1 on.
TURNS = [lambda a: a, np.fliplr, lambda a: np.rot90(a, 2), np.flipud, lambda a: a.swapaxes(0, 1), lambda a: np.rot90(a, -1),
         lambda a: np.rot90(a, 2).swapaxes(0, 1), np.rot90]  # fmt: skip


def orientation_chunk(value: int) -> tuple[bytes, bytes]:
    """Return the EXIF metadata with only this orientation."""
    entry = (0x0112).to_bytes(2, "big") + b"\0\3" + b"\0\0\0\1" + value.to_bytes(2, "big") + b"\0\0"
    return b"eXIf", b"MM\0*" + (8).to_bytes(4, "big") + b"\0\1" + entry + bytes(4)


def to_bytes(samples: np.ndarray, depth: int, *, upper_bits: bool) -> np.ndarray:
    """Return samples of `depth` bits as values of 8 bits: rounded, or the upper ones of 16 bits."""
    if depth == 16 and upper_bits:
        return samples // 256
    return np.rint(samples * (255 / (2**depth - 1)))


@st.composite
def pictures(draw):
    """Draw samples (H, W, C), the arguments of write_png(), and the upright pixels (H, W, 3) that follow from them."""
    kind = draw(st.sampled_from([*CHANNELS]))
    depth = draw(st.sampled_from(DEPTHS[kind]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.integers(1, 9)), draw(st.integers(1, 9)), CHANNELS[kind]
    few = draw(st.booleans())  # values, so that many pixels have the transparent one
    samples = rng.integers(0, 2**depth, shape) if not few else rng.choice(rng.integers(0, 2**depth, 3), shape)
    chunks, alpha = [], np.ones((*shape[:2], 1))
    key = samples[0, 0] if draw(st.booleans()) else rng.integers(0, 2**depth, shape[2])
    if kind == PALETTE:
        colors = rng.integers(0, 256, (2**depth, 3), dtype=np.uint8)
        opacities = rng.choice([0, 1, 128, 255], rng.integers(0, 2**depth + 1))
        chunks = [(b"PLTE", colors.tobytes())] + [(b"tRNS", opacities.astype(np.uint8).tobytes())] * bool(len(opacities))
        alpha = np.concatenate([opacities, np.full(2**depth - len(opacities), 255)])[samples] / 255
        pixels = colors[samples[..., 0]]
    elif kind in (GRAY, RGB):
        if draw(st.booleans()) and (kind, depth) != (RGB, 16):
            chunks = [transparent(*key.tolist())]
            alpha = (samples != key).any(axis=-1, keepdims=True).astype(float)
        pixels = to_bytes(samples, depth, upper_bits=kind == RGB)
    else:
        pixels = to_bytes(samples[..., :-1], depth, upper_bits=True)
        alpha = to_bytes(samples[..., -1:], depth, upper_bits=True) / 255
    orientation = draw(st.integers(0, 9))
    if draw(st.booleans()):
        chunks = [*chunks, orientation_chunk(orientation)]
        turn = TURNS[orientation - 1] if 1 <= orientation <= 8 else TURNS[0]
    else:
        turn = TURNS[0]
    over_white = np.floor(pixels * alpha + 255 * (1 - alpha) + 0.5 + 1e-9) + np.zeros(3)
    return samples, {"depth": depth, "kind": kind, "chunks": chunks}, turn(over_white), bool((alpha < 1).any())


def test_random_pngs(tmp_path):
    @cases(300)
    @given(pictures())
    def check(picture):
        samples, how, expected, has_transparency = picture
        path = write_png(tmp_path / "0.png", samples, **how)
        image, remarks = open_upright(path)
        assert np.array_equal(np.asarray(image), expected) and remarks == ("transparent",) * has_transparency
        frame = read_image(path, height=image.height, width=image.width)
        assert np.array_equal(frame.pixels.transpose(1, 2, 0), expected) and frame.remarks == remarks

    check()
