"""Image metrics, conversions, seeds, and errors that a user can fix."""

import math
import pickle
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.image_metrics import psnr, ssim
from runtime.program import one_line_errors
from tests.helpers.refusals import refused
from tools import plot_curves
from utils import UserError, command_line, counted, optional_package, seed_for, to_model, video_to_bytes


def test_psnr_has_one_value_per_frame():
    target = torch.zeros(2, 3, 3, 4, 4)
    predicted = target.clone()
    predicted[0, 1] = 0.1  # squared error 0.01 -> 20 dB
    predicted[1, 2, 0] = 0.1  # one channel of three -> 20 + 10 log10(3) dB
    scores = psnr(predicted, target)
    assert scores.shape == (2, 3)
    assert scores[0, 1].item() == pytest.approx(20, abs=1e-4)
    assert scores[1, 2].item() == pytest.approx(20 + 10 * math.log10(3), abs=1e-4)
    assert scores[0, 0].item() == math.inf


def test_psnr_does_not_broadcast():
    with pytest.raises(ValueError, match="shapes differ"):
        psnr(torch.zeros(5, 3, 4, 4), torch.zeros(1, 3, 4, 4))


def test_ssim_equals_the_definition_written_as_loops():
    """Wang et al. 2004, equation 13, window by window in float64."""
    rng = np.random.default_rng(0)
    x = rng.random((3, 13, 14))
    y = np.clip(x + 0.2 * rng.standard_normal(x.shape), 0, 1)
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for c in range(3):
        for i in range(13 - 10):
            for j in range(14 - 10):
                a, b = x[c, i : i + 11, j : j + 11], y[c, i : i + 11, j : j + 11]
                ma, mb = (window * a).sum(), (window * b).sum()
                va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
                cov = (window * (a - ma) * (b - mb)).sum()
                values.append((2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4)))
    found = ssim(torch.from_numpy(x).float()[None], torch.from_numpy(y).float()[None])
    assert found.shape == (1,) and found.item() == pytest.approx(np.mean(values), abs=1e-5)


def test_ssim_of_equal_frames_is_one_and_small_frames_are_refused():
    video = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(ssim(video, video), torch.ones(2))
    with pytest.raises(ValueError, match="11 pixels"):
        ssim(torch.rand(3, 10, 16), torch.rand(3, 10, 16))


def test_bytes_are_rounded_and_clipped():
    """Without clipping, 1.01 times 255 wraps around when it is cast to a byte, and becomes black."""
    assert video_to_bytes(torch.tensor([-0.2, 0.0, 0.4999 / 255, 0.5001 / 255, 1.0, 1.01])).tolist() == [0, 0, 0, 1, 255, 255]


def test_pixels_are_scaled_and_other_values_kept():
    cpu = torch.device("cpu")
    assert to_model(torch.tensor([0, 255], dtype=torch.uint8), cpu).tolist() == [0, 1]
    actions = torch.tensor([-3.5, 7.0])
    assert torch.equal(to_model(actions, cpu), actions)


def test_seeds_are_the_same_on_every_machine_and_depend_on_every_part():
    assert seed_for(1, "clip", 2, 3) == seed_for(1, "clip", 2, 3) == 501599591444266652
    seeds = {seed_for(s, kind, e, i) for s in range(3) for kind in ("clip", "step") for e in range(5) for i in range(5)}
    assert len(seeds) == 150 and all(0 <= seed < 2**63 for seed in seeds)


def test_the_error_about_a_missing_package_names_the_flag_that_needs_it():
    with pytest.raises(UserError, match=r"--use_wandb needs the package no_such_package.*pip install no_such_package"):
        optional_package("no_such_package", flag="--use_wandb")


@pytest.mark.parametrize(
    "error, status", [(UserError("a\nb"), 1), (OSError(28, "No space left on device", "x"), 1), (KeyboardInterrupt(), 130)]
)
def test_errors_end_a_program_with_one_line(capsys, error, status):
    @one_line_errors
    def main(argv):
        raise error

    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == status and len(capsys.readouterr().err.strip().splitlines()) == 1


def test_several_problems_are_printed_together_one_per_line(capsys):
    @one_line_errors
    def main(argv):
        raise UserError("data: 2 of 9\nframes cannot be used:", ["a.png: is\ncut", "b.png: is cut"])

    with pytest.raises(SystemExit):
        main([])
    assert capsys.readouterr().err == "error: data: 2 of 9 frames cannot be used:\n  a.png: is cut\n  b.png: is cut\n"


def failing_with(error: Exception):
    """Return a program that raises the error."""

    @one_line_errors
    def main(argv):
        raise error

    return main


def printed_errors(capsys, error: Exception) -> list[str]:
    """Return the lines, without their indent, that a program prints which raises the error."""
    with pytest.raises(SystemExit) as stop:
        failing_with(error)([])
    assert stop.value.code == 1
    return [line.removeprefix("  ") for line in capsys.readouterr().err.splitlines()]


@pytest.mark.parametrize("count", [20, 21, 2001])
def test_a_long_list_of_problems_continues_in_a_file(tmp_path, monkeypatch, capsys, count):
    """2,001 bad files once printed 2,002 lines. The file has all of them, at their full length."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    problems = [f"{number}.png: {'x' * 400}" for number in range(count)]
    message, *printed = printed_errors(capsys, UserError(f"data: {count} frames cannot be used:", problems))
    assert message == f"error: data: {count} frames cannot be used:"
    assert [line.split(":")[0] for line in printed[:20]] == [f"{number}.png" for number in range(20)]
    assert all(len(line) == 300 and " ... " in line for line in printed[:20])
    files = list(tmp_path.iterdir())
    if count == 20:
        assert len(printed) == 20 and files == []
    else:
        (file,) = files
        assert printed[20:] == [f"and {count - 20:,} more; the whole list is in {file}"]
        assert file.read_text().splitlines() == [f"data: {count} frames cannot be used:", *(f"  {line}" for line in problems)]


def test_a_long_list_without_a_place_for_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    _, *printed = printed_errors(capsys, UserError("data: bad frames:", map(str, range(25))))
    assert printed[20:] == ["and 5 more; the whole list cannot be written to a temporary file (No such file or directory)"]


@pytest.mark.parametrize(
    "error", [UserError(f"a.csv: expected 3 columns, got {'0;' * 9999}; use commas"), OSError(f"a.csv: {'0;' * 9999} commas")]
)
def test_a_long_message_keeps_its_place_and_its_way_out(capsys, error):
    message = refused(capsys, failing_with(error), [])
    assert message.startswith("error: a.csv: ") and message.endswith(" commas") and len(message) == 1007


def test_a_long_wrong_flag_is_not_printed_whole(capsys):
    message = refused(capsys, plot_curves.main, [f"--{'q' * 9999}"])
    assert (
        message.startswith("error: --qqq") and message.endswith(": no such flag (--help lists the flags)") and len(message) < 1100
    )


@pytest.mark.parametrize("variables, variable", [({"LC_ALL": "C"}, "LC_ALL=C"), ({"LC_CTYPE": "C"}, "LC_CTYPE=C"), ({"LANG": "C"}, "LANG=C"),
                                                 ({}, "LANG=")])  # fmt: skip
def test_a_path_that_the_locale_cannot_express_names_the_locale(monkeypatch, capsys, variables, variable):
    """With LC_ALL=C, an existing path was called "not of Unicode characters"."""
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    text = "runs/舞".encode().decode("ascii", "surrogateescape")
    expected = (f"error: argument runs: expected a path in the encoding ascii of the locale {variable}, got runs/舞; "
                f"set PYTHONUTF8=1, or {variable.split('=')[0]} to a UTF-8 locale (--help lists the flags)")  # fmt: skip
    assert refused(capsys, plot_curves.main, [text]) == expected


def test_a_file_name_that_is_not_text_is_named_as_such(capsys):
    assert "expected a path of Unicode characters, got 'runs/\\udcff'; rename the file" in refused(
        capsys, plot_curves.main, ["runs/\udcff"]
    )


def test_an_error_with_its_problems_can_be_sent_between_processes():
    copied = pickle.loads(pickle.dumps(UserError("two", ["a", "b"])))
    assert str(copied) == "two\n  a\n  b" and copied.problems == ["a", "b"]


def test_a_command_can_be_typed_into_the_shell_of_the_system():
    """On Windows, single quotes around a path once became part of a folder's name."""
    words = ["python", "Trainer.py", "--DR", "my data", "--save_root", Path("runs/a")]
    assert command_line(words, windows=False) == "python Trainer.py --DR 'my data' --save_root runs/a"
    words[-1] = r"runs\a"
    assert command_line(words, windows=True) == r'python Trainer.py --DR "my data" --save_root runs\a'


def test_a_number_gets_its_noun_in_the_right_form():
    """Programs printed "1 sequences" and "1 batches"."""
    assert [counted(number, "batch") for number in (0, 1, 2)] == ["0 batches", "1 batch", "2 batches"]
    assert counted(1, "sequence") == "1 sequence" and counted(2, "epoch") == "2 epochs" and counted(3200, "clip") == "3,200 clips"
