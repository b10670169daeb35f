"""The benchmark programs on tiny data: what they count and average, by hand; what they leave out; no times are asserted."""

import json
from argparse import Namespace

import numpy as np
import pytest
import torch

from benchmarks import curves, speed
from benchmarks.common import measure, point
from benchmarks.common.flops import count_gflop
from data.dance import DanceClips, DanceSplit
from tests.helpers.refusals import refused
from tests.helpers.settings import SMALL, SMALL_SVG

CPU = torch.device("cpu")
TINY_YARDSTICK = """
import torch
from torch import nn

class CourseNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.label_encoder, self.decoder = nn.Conv2d(3, 2, 1), nn.Conv2d(3 + 2 + 12, 3, 1)
        self.posterior = nn.Conv2d(3, 24, 1)

    def decode(self, previous, pose, z):
        return self.decoder(torch.cat([previous, pose, z], dim=1))

    def forward(self, previous, pose, target):
        mu, logvar = self.posterior(target).chunk(2, dim=1)
        return self.decode(previous, self.label_encoder(pose), mu), mu, logvar
"""


@pytest.fixture
def yardstick(tmp_path):
    path = tmp_path / "course_network.py"
    path.write_text(TINY_YARDSTICK)
    return path


def run_speed(capsys, rendered, *options, behind=()) -> dict[tuple[str, str], list[str]]:
    """The printed tables as {(part, what): [unit, median, min to max]}."""
    speed.main(["--DR", str(rendered), "--rounds", "2", "--steps", "1", "--rollout_frames", "4", "--images", "6",
                "--matrix", "32", *map(str, options), "--", *SMALL, "--amp", "none", "--batch_size", "3", *behind])  # fmt: skip
    rows, part = {}, None
    for line in capsys.readouterr().out.splitlines():
        part = line.strip("*") if line.startswith("**") else part
        if part and line.startswith("| ") and not line.startswith(("| measured", "| ---")):
            what, *cells = [cell.strip() for cell in line.strip("|").split("|")]
            rows[part, what] = cells
    return rows


def value(cells: list[str]) -> float:
    return float(cells[1].replace(",", ""))


def test_the_operations_of_a_convolution_as_by_hand():
    """2 * 3*3 * 3 inputs * 8 outputs * 16*16 places; over two frames, half of that each."""
    layer, image = torch.nn.Conv2d(3, 8, 3, padding=1), torch.rand(1, 3, 16, 16)
    assert count_gflop(lambda: layer(image), 1) == pytest.approx(2 * 9 * 3 * 8 * 256 / 1e9)
    assert count_gflop(lambda: layer(image), 2) == pytest.approx(9 * 3 * 8 * 256 / 1e9)


def test_the_rate_of_a_recipe_adds_times_and_not_rates():
    """Three epochs of 300 frames: 1 s, half at either rate 2 s, 3 s; 900 frames in 6 s. The mean of the rates would be 200."""
    assert speed.recipe_rate(300.0, 100.0, [1.0, 0.5, 0.0]) == pytest.approx(150.0)


def test_the_ratios_are_those_of_every_epoch_of_the_recipe():
    flags = measure.parse_flags(["--DR", ".", "--num_epoch", "4", "--tfr_sde", "1", "--tfr_d_step", "0.25"])
    assert measure.forcing_ratios(flags) == pytest.approx([1, 0.75, 0.5, 0.25])


def test_candidates_take_turns_and_warm_up_once():
    calls = []
    results = measure.interleaved({name: lambda name=name: calls.append(name) or len(calls) for name in "ab"}, rounds=2)
    assert "".join(calls) == "ababab" and results == {"a": [3, 5], "b": [4, 6]}


def test_the_table_gives_the_median_and_the_span_of_the_rounds():
    table = measure.tabulate("part", [measure.Row("a", "s", [1.0, 5.0, 2.0]), measure.Row("b", "s", [], "left out: why")])
    assert table.splitlines()[-2:] == ["| a | s | 2 | 1 to 5 |", "| b | s | left out: why |  |"]


def test_the_precision_is_the_one_that_autocast_uses():
    used = [measure.precision_in_use(Namespace(device=CPU, args=Namespace(amp=amp))) for amp in ("none", "bfloat16")]
    assert used == [torch.float32, torch.bfloat16]


@pytest.mark.slow
def test_every_part_of_speed(capsys, rendered, yardstick):
    """One round, so that the rates that are made of others can be made again from the printed ones (three digits)."""
    rows = run_speed(
        capsys,
        rendered,
        "--rounds",
        "1",
        "--yardstick",
        yardstick,
        behind=["--num_epoch", "30", "--tfr_sde", "10", "--tfr_d_step", "0.1"],
    )
    assert {part for part, _ in rows} == {"train", "rollout", "memory", "compute", "cache"}
    forced, own = (value(rows["train", f"{fed} frames fed back"]) for fed in ("true", "own"))
    # The course's schedule: 10 epochs at 1, then 0.9 to 0.1, which are 4.5 epochs' worth of true frames, the rest without.
    recipe = 30 / (14.5 / forced + 15.5 / own)
    assert value(rows["train", "whole recipe, 30 epochs"]) == pytest.approx(recipe, rel=0.02)
    for part, name, ours in [
        ("train", "own frames fed back", "own frames fed back"),
        ("rollout", "5 side by side", "5 side by side"),
    ]:
        ratio = value(rows[part, ours]) / value(rows[part, f"course network, float32, {name}"])
        assert value(rows[part, f"{ours} / course network"]) == pytest.approx(ratio, rel=0.02)
    assert 0 < value(rows["train", "data loading of a step, own frames fed back"]) < 100
    assert value(rows["memory", "training, own frames fed back (the whole process)"]) > 50  # torch alone takes more
    forward, step = (rows["compute", name] for name in
                     ("forward pass of training, own frames fed back", "training, own frames fed back"))  # fmt: skip
    assert 2 < value(step) / value(forward) < 3.1  # backward is up to twice forward
    share = 100 * value(step) * own / value(rows["compute", "matrix product, float32"])
    assert value(rows["compute", "training, own frames fed back, of the float32 rate"]) == pytest.approx(share, rel=0.02)
    building, plain = (value(rows["cache", what]) for what in
                       ("building the frame cache, 6 images", "decoding and resizing alone"))  # fmt: skip
    assert value(rows["cache", "building / decoding alone"]) == pytest.approx(100 * building / plain, rel=0.02)


def test_the_robot_is_measured_without_a_yardstick(capsys, rendered_robot, yardstick):
    speed.main(["--DR", str(rendered_robot), "--only", "train", "rollout", "compute", "--rounds", "1", "--steps", "1",
                "--matrix", "32", "--rollout_frames", "4", "--yardstick", str(yardstick),
                "--", "--model", "svg_fp", "--amp", "none", *SMALL_SVG])  # fmt: skip
    printed = capsys.readouterr().out
    assert "left out: --model svg_fp predicts no frames from pose images" in printed
    assert "| roll-out, one sequence, of the float32 rate | % |" in printed


def test_without_the_yardstick_its_rows_are_left_out(capsys, rendered, tmp_path):
    rows = run_speed(capsys, rendered, "--only", "train", "--rounds", "1", "--yardstick", tmp_path / "none.py")
    assert rows["train", "course network, float32, own frames fed back"][1].startswith("left out: no file none.py")
    assert not any("/ course network" in what for _, what in rows)
    assert value(rows["train", "own frames fed back"]) > 0


def test_parts_can_be_skipped(capsys, rendered):
    assert {part for part, _ in run_speed(capsys, rendered, "--skip", "train", "rollout", "memory", "compute")} == {"cache"}


@pytest.mark.parametrize("main, more", [(speed.main, []), (curves.main, ["--out", "."])])
def test_a_wrong_folder_is_refused_in_one_line(capsys, tmp_path, main, more):
    assert "no such folder" in refused(capsys, main, ["--DR", tmp_path / "none", *more])


def test_a_file_that_is_no_yardstick_is_refused(capsys, rendered, tmp_path):
    (tmp_path / "other.py").write_text("x = 1")
    argv = ["--DR", rendered, "--only", "train", "--yardstick", tmp_path / "other.py", "--", *SMALL]
    with pytest.raises(SystemExit):
        speed.main([str(part) for part in argv])
    assert "defines no CourseNetwork" in capsys.readouterr().err


@pytest.mark.slow
def test_curves_measure_every_point_and_go_on_after_one_that_fails(capsys, rendered, tmp_path):
    """The demo's stretches have 20 frames, so that a clip of 500 fits nowhere."""
    out = tmp_path / "curves"
    curves.main(["--DR", str(rendered), "--out", str(out), "--only", "clip", "frames", "--steps", "1", "--clip", "500", "3",
                 "--frames", "70", "--", *SMALL])  # fmt: skip
    rows = json.loads((out / "curves.json").read_text())["rows"]
    keys = {
        "curve",
        "value",
        "x",
        "seconds_per",
        "seconds",
        "start_up",
        "peak_mib",
        "imports_mib",
        "memory_of",
        "precision",
        "problem",
    }
    assert [set(row) for row in rows] == [keys] * 3
    assert [(row["curve"], row["x"]) for row in rows] == [("clip", 500), ("clip", 3), ("frames", 70)]
    assert rows[0]["seconds"] is None and "at least --train_vi_len 500 frames, got at most 20" in rows[0]["problem"]
    for row in rows[1:]:
        assert row["problem"] is None and row["seconds"] > 0 and row["start_up"] > 0
        assert row["peak_mib"] >= row["imports_mib"] > 50  # torch alone takes more
    printed = capsys.readouterr().out
    assert printed == (out / "curves.md").read_text() and "| clip | 3 |" in printed and "per batch of the loader" in printed
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in out.iterdir()) == ["curves.json", "curves.md", "curves.png"]


def test_repeated_frames_are_one_long_video_for_the_real_clips(rendered, tmp_path):
    """40 training frames, written 100 times over in turn: frame i is frame i % 40, and so is its pose."""
    images = DanceSplit.load(rendered, "train", height=32, width=64, cache_dir=tmp_path).images
    curves.write_repeated(images, 100, tmp_path / "train.npy")
    split = point.file_split(tmp_path / "train.npy")
    assert np.array_equal(split.images, images[:, np.arange(100) % 40])
    clips = DanceClips(split=split, length=5, partial=1.0, seed=1, reference="clip", flip=0.0, shift=0, margin=0)
    assert len(clips.starts) == 96 and len(clips) == 20


@pytest.mark.parametrize("status, stderr, expected", [
    (-9, "", "out of memory"),
    (1, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\n", "out of memory"),
    (1, "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes\n", "out of memory"),
    (1, "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 1 GiB\n", "out of memory"),
    (1, "a warning\nerror: data: no such folder\n", "data: no such folder"),
    (3, "", "ended with status 3"),
])  # fmt: skip
def test_why_a_point_failed(status, stderr, expected):
    assert measure.why_failed(status, stderr) == expected


def test_a_point_out_of_memory_says_so_in_its_row(monkeypatch, tmp_path):
    monkeypatch.setattr(curves, "run_point", lambda *_: {"problem": "out of memory"})
    row = curves.measure("size", (128, 256), Namespace(DR=tmp_path, trainer_flags=[], steps=1), Namespace())
    assert (row["value"], row["x"], row["seconds"]) == ("128x256", 128 * 256, None)
    assert curves.table([row]).splitlines()[-1] == "| size | 128x256 |  |  |  |  |  | out of memory |"
    curves.draw([row], tmp_path / "curves.png")
