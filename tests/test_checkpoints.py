import pickle

import pytest
import torch

from checkpoints import KEYS, find_checkpoint, load_checkpoint, model_from_checkpoint, save_checkpoint
from utils import UserError


def test_a_checkpoint_holds_all_a_resumed_run_needs(trained):
    """'optimizer': self.state_dict() saved the weights twice and no optimiser."""
    state = load_checkpoint(trained / "last.ckpt")
    assert set(state) >= KEYS
    moments = state["optimiser"]["state"]
    assert len(moments) == len(state["model"]) and {"exp_avg", "exp_avg_sq", "step"} <= set(moments[0])
    assert state["epoch"] == 2 and state["step"] == 4 and state["flags"]["num_epoch"] == 2
    assert any(not torch.equal(state["model"][name], state["ema"][name]) for name in state["model"])


def test_the_model_is_rebuilt_from_the_checkpoint_alone(trained):
    state = load_checkpoint(trained / "best.ckpt")
    model = model_from_checkpoint(state, trained / "best.ckpt")
    assert not model.training
    assert all(torch.equal(value, state["ema"][name]) for name, value in model.state_dict().items())


def test_a_run_folder_means_its_best_or_its_last(trained, tmp_path):
    assert find_checkpoint(trained, prefer="best").name == "best.ckpt"
    assert find_checkpoint(trained, prefer="last").name == "last.ckpt"
    (tmp_path / "last.ckpt").touch()
    assert find_checkpoint(tmp_path, prefer="best").name == "last.ckpt"
    with pytest.raises(UserError, match="no such file"):
        find_checkpoint(tmp_path / "nowhere", prefer="best")
    (tmp_path / "last.ckpt").unlink()
    with pytest.raises(UserError, match=r"holds no best\.ckpt"):
        find_checkpoint(tmp_path, prefer="best")


class Malicious:
    def __reduce__(self):
        return print, ("code from the file was run",)


@pytest.mark.parametrize("content", ["text", "short text", "empty", "cut", "weights", "list", "malicious", "newer"])
def test_what_is_no_checkpoint_is_refused_in_one_sentence(trained, tmp_path, capsys, content):
    path = tmp_path / "file.ckpt"
    whole = (trained / "last.ckpt").read_bytes()
    if content in ("text", "short text", "empty", "cut"):
        # The short one reads as pickle opcodes and made torch's reader raise an IndexError.
        path.write_bytes({"text": b"hello, this is text", "short text": b"text", "empty": b"", "cut": whole[: len(whole) // 2]}[content])
    elif content == "malicious":
        path.write_bytes(pickle.dumps(Malicious()))
    else:
        value = {"weights": {"layer.weight": torch.zeros(2)}, "list": [1, 2], "newer": load_checkpoint(trained / "last.ckpt") | {"format": 99}}
        torch.save(value[content], path)
    with pytest.raises(UserError, match=r"file\.ckpt: (is not a checkpoint|has checkpoint format 99)"):
        load_checkpoint(path)
    assert "code from the file" not in capsys.readouterr().out


def test_weights_of_another_model_are_refused(trained):
    state = load_checkpoint(trained / "last.ckpt")
    for config in ({"frame_dim": 32}, {"family": "svg"}, {"depth": 3}):
        with pytest.raises(UserError, match="other"):
            model_from_checkpoint(state | {"model_config": state["model_config"] | config}, trained / "other.ckpt")


def test_a_failed_save_leaves_the_earlier_checkpoint_whole(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, {"epoch": 1})

    def fail(state, file):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, {"epoch": 2})
    monkeypatch.undo()
    assert torch.load(path, weights_only=True)["epoch"] == 1 and [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_robots_checkpoint_of_the_first_format_is_read_and_a_dancers_is_not(trained, trained_robot, tmp_path):
    """SVG has not changed since; PoseCVAE has other inputs."""
    for run in (trained, trained_robot):
        torch.save(load_checkpoint(run / "last.ckpt") | {"format": 1}, tmp_path / f"{run.parent.name}.ckpt")
    assert load_checkpoint(tmp_path / f"{trained_robot.parent.name}.ckpt")["epoch"] == 2
    with pytest.raises(UserError, match="has checkpoint format 1"):
        load_checkpoint(tmp_path / f"{trained.parent.name}.ckpt")
