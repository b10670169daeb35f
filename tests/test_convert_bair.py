"""tools/convert_bair.py on TFRecords from an independent encoder: exact content, resuming, and bad input."""

import os
import random
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.refusals import refused
from tests.helpers.settings import ROOT
from tools import convert_bair
from tools.bair import conversion, tfrecords

# An independent encoder: the CRC is computed bit by bit, and fields are encoded as in the documentation of protocol buffers.


def crc32c(content: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


def masked(content: bytes) -> bytes:
    crc = crc32c(content)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32)


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value % 128 + 128]) + varint(value // 128)


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def bytes_feature(content: bytes) -> bytes:
    return field(1, field(1, content))


def float_feature(values, *, packed: bool = True) -> bytes:
    single = [struct.pack("<f", value) for value in values]
    return field(2, field(1, b"".join(single)) if packed else b"".join(varint(1 << 3 | 5) + value for value in single))


def example(features: dict[str, bytes]) -> bytes:
    """Encode an Example with an unknown field of every wire type in front, and the features in random order."""
    unknown = (
        varint(99 << 3)
        + varint(2**40)
        + varint(98 << 3 | 1)
        + b"12345678"
        + varint(97 << 3 | 5)
        + b"1234"
        + field(96, b"unknown")
    )
    names = random.Random(0).sample(sorted(features), len(features))
    entries = [field(1, field(1, name.encode()) + unknown + field(2, features[name])) for name in names]
    return unknown + field(1, b"".join(entries))


def record(payload: bytes) -> bytes:
    length = struct.pack("<Q", len(payload))
    return length + masked(length) + payload + masked(payload)


def robot(seed: int, *, frames: int = 3, side: int = 4, packed: bool = True):
    """Return the features of one sequence and the arrays in them: both views, actions, positions."""
    rng = np.random.default_rng(seed)
    aux1, main = rng.integers(0, 256, (2, frames, side, side, 3), dtype=np.uint8)
    actions, positions = rng.normal(size=(frames, 4)).astype("f4"), rng.normal(size=(frames, 3)).astype("f4")
    features = {}
    for i in range(frames):
        features[f"{i}/image_aux1/encoded"] = bytes_feature(aux1[i].tobytes())
        features[f"{i}/image_main/encoded"] = bytes_feature(main[i].tobytes())
        features[f"{i}/action"] = float_feature(actions[i], packed=packed)
        features[f"{i}/endeffector_pos"] = float_feature(positions[i], packed=packed)
    return features, aux1, main, actions, positions


def write_tfrecords(path: Path, seeds, **shape) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(record(example(robot(seed, **shape)[0])) for seed in seeds))
    return path


@pytest.fixture
def src(tmp_path) -> Path:
    """Write three train files of two sequences each, whose order by number differs from that by name, and a test file of one."""
    root = tmp_path / "bair" / "softmotion30_44k"
    for i, name in enumerate(["traj_0_to_1", "traj_2_to_3", "traj_10_to_11"]):
        write_tfrecords(root / "train" / f"{name}.tfrecords", [2 * i, 2 * i + 1])
    write_tfrecords(root / "test" / "traj_0_to_1.tfrecords", [50])
    (root / "train" / "._traj_0_to_1.tfrecords").write_bytes(b"metadata of macOS")
    return tmp_path / "bair"


def convert(src: Path, *flags: str) -> Path:
    """Convert in this process, into src/out."""
    convert_bair.main(["--src", str(src), "--out", str(src / "out"), "--workers", "1", *flags])
    return src / "out"


def sequences(out: Path) -> list[str]:
    return sorted(str(path.parent.relative_to(out)) for path in out.rglob("actions.csv"))


def read_sequence(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return frames, actions and positions as a data loader sees them; fail if the folder contains anything else."""
    frames = np.stack([np.asarray(Image.open(folder / f"{i}.png")) for i in range(len(list(folder.glob("*.png"))))])
    actions, positions = (
        np.loadtxt(folder / f"{name}.csv", delimiter=",", ndmin=2) for name in ("actions", "endeffector_positions")
    )
    assert len(list(folder.iterdir())) == len(frames) + 2
    return frames, actions, positions


def test_crc32c_equals_the_specification():
    assert crc32c(b"123456789") == 0xE3069283 == tfrecords.crc32c(b"123456789")
    for size in (4, 8, 4096, 4097, 8192, 20001):  # below and above the size that is computed in segments
        content = np.random.default_rng(size).bytes(size)
        assert tfrecords.crc32c(content) == crc32c(content)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("frames, side", [(3, 4), (12, 64)])
def test_frames_actions_and_positions_are_exact(src, packed, frames, side):
    shape = {"frames": frames, "side": side, "packed": packed}
    write_tfrecords(src / "softmotion30_44k" / "test" / "traj_0_to_1.tfrecords", [50], **shape)
    _, aux1, _, actions, positions = robot(50, **shape)
    found = read_sequence(convert(src) / "test" / "traj_0_to_1.tfrecords" / "0")
    assert all(np.array_equal(a, b) for a, b in zip(found, (aux1, actions, positions)))


def test_the_csv_has_the_format_of_the_course(src):
    """It has commas, no header and NumPy's default format, as in the data set of the course."""
    text = (convert(src) / "test" / "traj_0_to_1.tfrecords" / "0" / "actions.csv").read_text()
    assert re.fullmatch(r"((-?\d\.\d{18}e[+-]\d\d,){3}-?\d\.\d{18}e[+-]\d\d\n){3}", text)


def test_the_last_files_by_number_become_validation(src, capsys):
    out = convert(src)
    assert sequences(out) == [
        "test/traj_0_to_1.tfrecords/0",
        *(f"train/{name}.tfrecords/{k}" for name in ("traj_0_to_1", "traj_2_to_3") for k in (0, 1)),
        "validate/traj_10_to_11.tfrecords/0", "validate/traj_10_to_11.tfrecords/1",
    ]  # fmt: skip
    assert "4 training, 2 validation and 1 test sequences, 7 of them written now" in capsys.readouterr().out
    frames, _, _ = read_sequence(out / "validate" / "traj_10_to_11.tfrecords" / "1")
    assert np.array_equal(frames, robot(5)[1])


def test_the_inner_folder_the_other_view_and_no_validation(src):
    out = convert(src / "softmotion30_44k", "--view", "main", "--validate", "0")
    assert sorted(path.name for path in out.iterdir()) == ["conversion.json", "test", "train"]
    assert len(list((out / "train").iterdir())) == 3
    frames, _, _ = read_sequence(out / "train" / "traj_2_to_3.tfrecords" / "0")
    assert np.array_equal(frames, robot(2)[2])


def test_a_second_conversion_writes_only_missing_sequences(src, capsys):
    out = convert(src)
    lost = out / "train" / "traj_2_to_3.tfrecords" / "1"
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.*") if path.is_file() and path.parent != out}
    lost.rename(lost.with_name(".1.part"))  # as a killed run leaves it, incomplete
    (lost.with_name(".1.part") / "2.png").unlink()
    lost.with_name(".0.part").mkdir()
    capsys.readouterr()
    convert(src)
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*.*") if path.is_file() and path.parent != out}
    assert before.keys() == after.keys()
    assert {path.parent for path in before if before[path] != after[path]} == {lost}
    assert np.array_equal(read_sequence(lost)[0], robot(3)[1])
    assert "1 of them written now" in capsys.readouterr().out
    assert not list(out.rglob("*.part"))


@pytest.mark.parametrize("flags", [["--view", "main"], ["--validate", "2"]])
def test_a_second_conversion_with_other_settings_is_refused(src, capsys, flags):
    out = convert(src)
    before = sequences(out)
    message = refused(capsys, convert_bair.main, ["--src", src, "--out", out, *flags])
    assert str(out) in message and '{"view": "aux1", "validate from": "traj_10_to_11.tfrecords"}' in message
    assert sequences(out) == before


def test_the_folder_of_the_records_is_refused_as_output(src, capsys):
    folder = src / "softmotion30_44k"
    assert "no conversion.json" in refused(capsys, convert_bair.main, ["--src", folder, "--out", folder])
    assert not (folder / "conversion.json").exists()


def spoil(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def one_and(features: dict[str, bytes]) -> bytes:
    return FIRST + record(example(features))


def without(name: str) -> dict[str, bytes]:
    return {key: value for key, value in robot(1)[0].items() if key != name}


FIRST = record(example(robot(0)[0]))
SECOND = f"record 1 at byte {len(FIRST)}: "
DAMAGE = {
    "truncated in a payload": (FIRST + FIRST[:-9], SECOND + f"expected {len(FIRST) - 12} more bytes, got {len(FIRST) - 9 - 12}"),
    "truncated in the last checksum": (
        FIRST + FIRST[:-2],
        SECOND + f"expected {len(FIRST) - 12} more bytes, got {len(FIRST) - 2 - 12}",
    ),
    "truncated in a header": (FIRST + FIRST[:7], SECOND + "expected a header of 12 bytes, got 7"),
    "length": (FIRST + spoil(FIRST, 9), SECOND + "checksum of its length: expected 0x"),
    "payload": (FIRST + spoil(FIRST, 500), SECOND + "checksum of its payload: expected 0x"),
    "no TFRecords": (
        b"<html>404 Not Found</html>",
        f"record 0 at byte 0: checksum of its length: expected {int.from_bytes(masked(b'<html>40'), 'little'):#010x}, got 0x6f4e2034;",
    ),
    "empty": (b"", "expected TFRecords, got an empty file"),
    "no Example": (
        FIRST + record(b"some other message"),
        SECOND + "expected a tf.train.Example with wire types 0, 1, 2 and 5, got wire type 3",
    ),
    "an Example's beginning": (FIRST + record(example(robot(1)[0])[:-5]), SECOND + "expected a tf.train.Example, got "),
    "an endless number": (FIRST + record(b"\xff" * 20), SECOND + "expected a tf.train.Example, got a number without an end"),
    "another Example": (
        one_and({"label": bytes_feature(b"7")}),
        SECOND + "expected 1 frames with all features, got no feature '0/image_aux1/encoded'",
    ),
    "no last image": (
        one_and(without("2/image_aux1/encoded")),
        SECOND + "expected 3 frames with all features, got no feature '2/image_aux1/encoded'",
    ),
    "no action": (one_and(without("1/action")), SECOND + "expected 3 frames with all features, got no feature '1/action'"),
    "no position": (
        one_and(without("0/endeffector_pos")),
        SECOND + "expected 3 frames with all features, got no feature '0/endeffector_pos'",
    ),
    "three actions": (
        one_and(robot(1)[0] | {"1/action": float_feature([1, 2, 3])}),
        SECOND + "feature 1/action: expected 4 floats, got 3",
    ),
    "no floats": (
        one_and(robot(1)[0] | {"1/action": bytes_feature(b"1")}),
        SECOND + "feature 1/action: expected 4 floats, got 0",
    ),
    "no square": (
        one_and(robot(1)[0] | {"0/image_aux1/encoded": bytes_feature(bytes(50))}),
        SECOND + "feature 0/image_aux1/encoded: expected 3 times a square number of bytes, as raw RGB has, got 50",
    ),
    "two sizes": (
        one_and(robot(1)[0] | {"2/image_aux1/encoded": bytes_feature(bytes(27))}),
        SECOND + "feature 2/image_aux1/encoded: expected 48 bytes as in frame 0, got 27",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_record_is_named_and_not_written(src, capsys, damage):
    path = src / "softmotion30_44k" / "train" / "traj_0_to_1.tfrecords"
    content, expected = DAMAGE[damage]
    path.write_bytes(content)
    message = refused(capsys, convert_bair.main, ["--src", src, "--out", src / "out", "--workers", "1"])
    assert f"{path}: {expected}" in message
    folder = src / "out" / "train" / "traj_0_to_1.tfrecords"
    assert [path.name for path in folder.glob("*")] == (["0"] if content.startswith(FIRST) else [])


def test_a_full_disk_leaves_no_incomplete_sequence(src, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(conversion.np, "savetxt", full)
    message = refused(capsys, convert_bair.main, ["--src", src, "--out", src / "out", "--workers", "1"])
    assert "No space left on device" in message
    assert not list((src / "out").rglob("*.png"))


def test_bad_flags_are_refused_before_anything_is_written(src, tmp_path, capsys):
    out = tmp_path / "out"
    (tmp_path / "file").touch()
    assert f"--src {tmp_path}: expected the unpacked softmotion30_44k, got no traj_*_to_*.tfrecords in" in refused(
        capsys, convert_bair.main, ["--src", tmp_path, "--out", out]
    )
    assert "--validate 3: expected fewer than the 3 train files" in refused(
        capsys, convert_bair.main, ["--src", src, "--out", out, "--validate", "3"]
    )
    assert "--out" in refused(capsys, convert_bair.main, ["--src", src, "--out", tmp_path / "file"])
    assert not out.exists()


def test_an_error_in_a_worker_process_ends_the_program_with_one_line(src, capfd):
    bad = src / "softmotion30_44k" / "train" / "traj_2_to_3.tfrecords"
    bad.write_bytes(bad.read_bytes()[:-1])
    flags = ["--src", src, "--out", src / "out", "--workers", "2"]
    assert f"{bad}: record 1 at byte" in refused(capfd, convert_bair.main, flags)
    assert not list((src / "out").rglob("*.part"))


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C cannot be sent to one process on Windows")
@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_ctrl_c_ends_with_one_line_and_the_next_start_resumes(src, workers):
    for path in (src / "softmotion30_44k" / "train").glob("traj*"):
        path.write_bytes(FIRST * 20000)
    command = [sys.executable, str(ROOT / "tools" / "convert_bair.py"), "--src", ".", "--out", "out", "--workers", workers]
    run = subprocess.Popen(command, cwd=src, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 240
    while not list((src / "out").glob("train/*/9")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGINT)  # to the workers too, as a terminal sends it
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 130 and errors == "stopped; the same command resumes here\n"
    folders = list((src / "out").glob("train/*/*"))
    assert len(folders) >= 10 and all(np.array_equal(read_sequence(folder)[0], robot(0)[1]) for folder in folders)
    before = {folder: folder.stat().st_mtime_ns for folder in folders}
    for path in (src / "softmotion30_44k" / "train").glob("traj*"):
        path.write_bytes(FIRST * 40)
    assert len(sequences(convert(src) / "train" / "traj_0_to_1.tfrecords")) >= 40
    assert before == {folder: folder.stat().st_mtime_ns for folder in folders}
