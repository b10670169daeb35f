"""Checkpoints: their content, files that are damaged or something else, earlier formats, and safe writing."""

import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import Trainer
from runtime.files import write_whole
from tests.helpers.refusals import refused
from tests.helpers.settings import SMALL
from training.checkpoints import (
    FORMAT,
    KEYS,
    find_checkpoint,
    load_checkpoint,
    load_newest,
    model_from_checkpoint,
    serialize,
    write_checkpoint,
)
from utils import UserError

STORED = Path(__file__).parent / "checkpoints"  # written by earlier releases


def test_a_checkpoint_contains_what_a_resumed_run_needs(trained):
    """Many solutions store self.state_dict() as the optimizer: the weights twice, and no optimizer state."""
    state = load_checkpoint(trained / "last.ckpt")
    assert set(state) >= set(KEYS)
    optimizer_state = state["optimiser"]["state"]
    assert len(optimizer_state) == len(state["model"]) and {"exp_avg", "exp_avg_sq", "step"} <= set(optimizer_state[0])
    assert state["epoch"] == 2 and state["step"] == 4 and state["flags"]["num_epoch"] == 2
    assert any(not torch.equal(state["model"][name], state["ema"][name]) for name in state["model"])


def test_the_model_is_rebuilt_from_the_checkpoint_alone(trained):
    state = load_checkpoint(trained / "best.ckpt")
    model = model_from_checkpoint(state, trained / "best.ckpt")
    assert not model.training
    assert all(torch.equal(value, state["ema"][name]) for name, value in model.state_dict().items())


def test_the_checkpoint_of_a_run_folder_is_its_best_or_its_last(trained, tmp_path):
    assert find_checkpoint(trained, prefer="best").name == "best.ckpt"
    assert find_checkpoint(trained, prefer="last").name == "last.ckpt"
    (tmp_path / "last.ckpt").touch()
    assert find_checkpoint(tmp_path, prefer="best").name == "last.ckpt"
    with pytest.raises(UserError, match="no such file"):
        find_checkpoint(tmp_path / "nowhere", prefer="best")
    (tmp_path / "last.ckpt").unlink()
    with pytest.raises(UserError, match=r"without best\.ckpt"):
        find_checkpoint(tmp_path, prefer="best")


class Malicious:
    """An object that creates a file when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("was-run"),)


def spoil(path: Path, kind: str) -> None:
    """Damage the checkpoint at `path`, or replace it with something else."""
    whole = path.read_bytes()
    state = load_checkpoint(path)
    if kind == "flipped":
        with zipfile.ZipFile(path) as archive:  # a bit in the middle of a weight
            entry = max(archive.infolist(), key=lambda info: info.file_size)
        middle = entry.header_offset + 200 + entry.file_size // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 8]) + whole[middle + 1 :])
    elif kind in ("text", "short text", "empty", "cut", "one byte short"):
        # The short text consists of valid pickle opcodes. It once made torch's reader raise an IndexError.
        texts = {"text": b"hello, this is text", "short text": b"text", "empty": b"", "cut": whole[: len(whole) // 2]}
        path.write_bytes(texts.get(kind, whole[:-1]))
    elif kind == "malicious":
        path.write_bytes(pickle.dumps(Malicious()))
    elif kind == "malicious inside":
        torch.save(state | {"flags": Malicious()}, path)
    elif kind == "archive":
        np.savez(path.with_suffix(".npz"), weights=np.zeros(3))
        path.with_suffix(".npz").replace(path)
    else:
        torch.save({"weights": {"layer.weight": torch.zeros(2)}, "list": [1, 2], "newer": state | {"format": 99},
                    "older": state | {"format": 1}, "incomplete": {"format": FORMAT, "epoch": 1},
                    "wrong inside": state | {"epoch": "two"}}[kind], path)  # fmt: skip


BAD_FILES = {
    "text": "it is not an archive of torch.save", "short text": "it is not an archive of torch.save", "empty": "the file is empty",
    "cut": "cut short or damaged", "one byte short": "cut short or damaged", "flipped": "the checksum of", "weights": "got weights alone",
    "list": "got another object", "archive": "an archive, but not one of torch.save", "newer": "expected a checkpoint format up to 3, got 99",
    "older": "expected checkpoint format 3, got 1", "incomplete": "model_config to be dict, got nothing", "wrong inside": "epoch to be int, got str",
    "malicious": "it is not an archive of torch.save", "malicious inside": "which could run code",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_file_that_is_not_a_checkpoint_is_refused_in_one_line(train_args, trained, tmp_path, monkeypatch, capsys, kind):
    """Trainer.py refuses it, and code in the file is not run."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(trained / "last.ckpt", tmp_path / "file.ckpt")
    spoil(tmp_path / "file.ckpt", kind)
    message = refused(capsys, Trainer.main, [*train_args, "--ckpt_path", "file.ckpt"])
    assert "file.ckpt" in message and BAD_FILES[kind] in message
    assert not (tmp_path / "was-run").exists() and not list((tmp_path / "run").glob("*.ckpt"))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", ["cut", "flipped", "malicious", "gone"])
def test_the_previous_checkpoint_is_used_when_the_newest_cannot_be_read(train_args, trained, tmp_path, capsys, kind):
    """The damaged one is kept under another name, so that it does not become the next previous.ckpt."""
    run = shutil.copytree(trained, tmp_path / "run")
    flags = [*train_args, "--batch_size", "4", "--num_epoch", "3", "--resume"]
    if kind == "gone":
        (run / "last.ckpt").unlink()
    else:
        spoil(run / "last.ckpt", kind)
    assert load_newest(run).path.name == "previous.ckpt"
    Trainer.main(flags)
    printed = capsys.readouterr().out
    assert "last.ckpt" in printed and f"resuming from {run / 'previous.ckpt'}" in printed
    assert load_checkpoint(run / "last.ckpt")["epoch"] == 3 and load_checkpoint(run / "previous.ckpt")["epoch"] < 3
    assert (run / "damaged.ckpt").exists() is (kind != "gone")
    for name in ("last", "previous"):
        spoil(run / f"{name}.ckpt", "cut")
    message = refused(capsys, Trainer.main, flags)
    assert "last.ckpt" in message and "previous.ckpt" in message and "--ckpt_path" in message


def test_every_flipped_bit_is_detected_or_harmless(trained, tmp_path):
    """torch does not verify an archive's checksums."""
    whole = (trained / "last.ckpt").read_bytes()
    expected = load_checkpoint(trained / "last.ckpt")
    noticed = 0
    for position in np.random.default_rng(0).integers(0, len(whole), 60).tolist():
        flipped = whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :]
        (tmp_path / "file.ckpt").write_bytes(flipped)
        try:
            state = load_checkpoint(tmp_path / "file.ckpt")
        except UserError:
            noticed += 1
        else:
            assert all(
                torch.equal(state[part][name], value) for part in ("model", "ema") for name, value in expected[part].items()
            )
            assert state["flags"] == expected["flags"] and state["progress"] == expected["progress"]
    assert noticed > 20


def test_weights_of_another_model_are_refused(trained):
    state = load_checkpoint(trained / "last.ckpt")
    for config in ({"frame_dim": 32}, {"family": "svg"}, {"depth": 3}):
        with pytest.raises(UserError, match="other"):
            model_from_checkpoint(state | {"model_config": state["model_config"] | config}, trained / "other.ckpt")


@pytest.mark.parametrize(
    "config", [{"frame_dim": -1}, {"frame_dim": 2**63}, {"frame_dim": "x"}, {"condition_mean": None}, {"family": ["svg"]}]
)
def test_sizes_that_no_model_has_are_refused(trained, config):
    """torch raises a RuntimeError or an OverflowError for such sizes."""
    state = load_checkpoint(trained / "last.ckpt")
    with pytest.raises(UserError, match=r"other\.ckpt: contains no model that can be built"):
        model_from_checkpoint(state | {"model_config": state["model_config"] | config}, trained / "other.ckpt")


def test_a_state_of_wrong_types_is_refused(trained, tmp_path):
    """Two such states once raised a built-in exception: a format 1 model_config that is not a dict, and a weight whose name is not text."""
    torch.save(load_checkpoint(trained / "last.ckpt") | {"format": 1, "model_config": None}, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match="expected checkpoint format 3, got 1"):
        load_checkpoint(tmp_path / "a.ckpt")
    state = load_checkpoint(trained / "last.ckpt")
    with pytest.raises(UserError, match="weights of another model"):
        model_from_checkpoint(state | {"ema": {1: torch.zeros(1)}}, tmp_path / "a.ckpt")


def test_a_state_that_cannot_be_read_back_is_never_written(trained):
    """A value of a class that the safe reader refuses would make every checkpoint of the run useless."""
    state = load_checkpoint(trained / "last.ckpt")
    with pytest.raises(UserError, match="the new checkpoint"):
        serialize(state | {"flags": {"DR": Path("data")}})


def test_a_checkpoint_is_flushed_under_another_name_before_it_is_moved(trained, tmp_path, monkeypatch):
    """If anything fails, the earlier checkpoint stays whole and no other file is left behind."""
    content = serialize(load_checkpoint(trained / "last.ckpt"))
    path = tmp_path / "last.ckpt"
    write_checkpoint(path, content)
    before, order = path.read_bytes(), []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr("os.fsync", lambda handle: order.append("fsync") or fsync(handle))
    monkeypatch.setattr(
        Path, "replace", lambda self, target: order.append(f"{self.name} -> {target.name}") or replace(self, target)
    )
    write_checkpoint(path, content)
    assert order[:3] == ["fsync", ".previous.ckpt.part -> previous.ckpt", ".last.ckpt.part -> last.ckpt"]
    assert path.read_bytes() == (tmp_path / "previous.ckpt").read_bytes() == before

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(path, content)
    assert path.read_bytes() == before and sorted(p.name for p in tmp_path.iterdir()) == ["last.ckpt", "previous.ckpt"]


def test_a_disk_that_returns_other_bytes_is_detected(tmp_path, monkeypatch):
    """Such a disk reports no error while writing."""
    real = open

    def lossy(path, mode="r"):
        if mode == "wb":
            file = real(path, mode)
            write = file.write

            class Lossy:
                def __getattr__(self, name):
                    return getattr(file, name)

                def __enter__(self):
                    return self

                def __exit__(self, *_):
                    file.close()

                def write(self, content):
                    return write(bytes(content)[:-1] + b"?")

            return Lossy()
        return real(path, mode)

    monkeypatch.setattr("runtime.files.open", lossy, raising=False)
    with pytest.raises(OSError, match="the bytes read back differ"):
        write_whole(tmp_path / "a", b"content")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name, epoch", [("svg_format1", 1), ("svg_format2", 1), ("pose_cvae_format2", 1)])
def test_checkpoints_of_earlier_formats_are_read(name, epoch):
    state = load_checkpoint(STORED / f"{name}.ckpt")
    assert (
        state["epoch"] == epoch and not state["progress"] and not state["data"] and not state["history"] and not state["curves"]
    )
    assert sum(p.numel() for p in model_from_checkpoint(state, STORED / name).parameters()) > 1000


def test_a_checkpoint_without_curves_gets_an_empty_list(trained, tmp_path):
    """The first checkpoints of format 3 did not contain curves."""
    state = load_checkpoint(trained / "last.ckpt")
    for curves in (None, [{"epoch": 0.5, "step": 1, "loss": 0.25}]):
        torch.save(
            state | {"curves": curves} if curves else {name: state[name] for name in state if name != "curves"},
            tmp_path / "a.ckpt",
        )
        assert load_checkpoint(tmp_path / "a.ckpt")["curves"] == (curves or [])
    torch.save(state | {"curves": {}}, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match="expected curves to be list, got dict"):
        load_checkpoint(tmp_path / "a.ckpt")


def test_training_continues_from_a_checkpoint_of_an_earlier_format(rendered, tmp_path):
    Trainer.main(["--DR", str(rendered), "--save_root", str(tmp_path / "run"), "--ckpt_path", str(STORED / "pose_cvae_format2.ckpt"),
                  "--num_epoch", "2", "--batch_size", "3", *SMALL, "--F_dim", "4", "--L_dim", "4", "--N_dim", "1", "--D_out_dim", "8"])  # fmt: skip
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["epoch"] == 2
