"""speed.py and curves.py on tiny data: counts and averages against hand-computed values. No test asserts a duration."""

import json
from argparse import Namespace

import numpy as np
import pytest
import torch

from benchmarks import curves, speed
from benchmarks.common import measure, point, processes, tables
from benchmarks.common.flops import count_gflop
from data.dance import DanceSplit
from tests.helpers.dance import clips_of
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


def run_speed(capsys, rendered, *options, trainer_flags=()) -> dict[tuple[str, str], list[str]]:
    """Run speed.py and return its tables as {(part, name): [unit, median, min to max]}."""
    speed.main(["--DR", str(rendered), "--rounds", "2", "--steps", "1", "--rollout_frames", "4", "--images", "6",
                "--matrix", "32", *map(str, options), "--", *SMALL, "--amp", "none", "--batch_size", "3", *trainer_flags])  # fmt: skip
    rows, part = {}, None
    for line in capsys.readouterr().out.splitlines():
        part = line.strip("*") if line.startswith("**") else part
        if part and line.startswith("| ") and not line.startswith(("| measured", "| ---")):
            name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
            rows[part, name] = cells
    return rows


def value(cells: list[str]) -> float:
    """Return the median of a row."""
    return float(cells[1].replace(",", ""))


def test_the_flop_of_a_convolution():
    """It has 2 * 3*3 * 3 inputs * 8 outputs * 16*16 positions, and half of that per frame if the work covers two frames."""
    layer, image = torch.nn.Conv2d(3, 8, 3, padding=1), torch.rand(1, 3, 16, 16)
    assert count_gflop(lambda: layer(image), 1) == pytest.approx(2 * 9 * 3 * 8 * 256 / 1e9)
    assert count_gflop(lambda: layer(image), 2) == pytest.approx(9 * 3 * 8 * 256 / 1e9)


def test_the_rate_of_a_recipe_adds_times_and_not_rates():
    """Three epochs of 300 frames take 1, 2 (half at either rate) and 3 s: 900 frames in 6 s. The mean of the rates would be 200."""
    assert speed.recipe_rate(300.0, 100.0, [1.0, 0.5, 0.0]) == pytest.approx(150.0)


def test_a_recipe_has_a_teacher_forcing_ratio_per_epoch():
    flags = measure.parse_flags(["--DR", ".", "--num_epoch", "4", "--tfr_sde", "1", "--tfr_d_step", "0.25"])
    assert measure.forcing_ratios(flags) == pytest.approx([1, 0.75, 0.5, 0.25])


def test_candidates_take_turns_after_one_round_to_warm_up():
    calls = []
    results = measure.interleave({name: lambda name=name: calls.append(name) or len(calls) for name in "ab"}, rounds=2)
    assert "".join(calls) == "ababab" and results == {"a": [3, 5], "b": [4, 6]}


def test_a_table_has_the_median_and_the_range_of_the_rounds():
    rows = [tables.Row("a", "s", [1.0, 5.0, 2.0]), tables.Row("b", "s", [], "omitted: reason")]
    assert tables.measurement_table("part", rows).splitlines()[-2:] == [
        "| a | s | 2 | 1 to 5 |",
        "| b | s | omitted: reason |  |",
    ]


def test_the_precision_is_that_of_autocast():
    used = [measure.precision_in_use(Namespace(device=CPU, args=Namespace(amp=amp))) for amp in ("none", "bfloat16")]
    assert used == [torch.float32, torch.bfloat16]


@pytest.mark.slow
def test_every_part_of_speed(capsys, rendered, yardstick):
    """With a single round, derived rates can be recomputed from the printed rates, which have three digits."""
    schedule = ["--num_epoch", "30", "--tfr_sde", "10", "--tfr_d_step", "0.1"]
    rows = run_speed(capsys, rendered, "--rounds", "1", "--yardstick", yardstick, trainer_flags=schedule)
    assert {part for part, _ in rows} == {"train", "rollout", "memory", "compute", "cache"}
    forced, autoregressive = value(rows["train", "teacher-forced"]), value(rows["train", "autoregressive"])
    # The course's schedule: 10 epochs at ratio 1, then 0.9 to 0.1, the equivalent of 4.5 teacher-forced epochs, then 0.
    recipe = 30 / (14.5 / forced + 15.5 / autoregressive)
    assert value(rows["train", "whole recipe, 30 epochs"]) == pytest.approx(recipe, rel=0.02)
    for part, name in [("train", "autoregressive"), ("rollout", "batch of 5")]:
        ratio = value(rows[part, name]) / value(rows[part, f"course network, float32, {name}"])
        assert value(rows[part, f"{name} / course network"]) == pytest.approx(ratio, rel=0.02)
    assert 0 < value(rows["train", "data loading, share of a step, autoregressive"]) < 100
    assert value(rows["memory", "training, autoregressive (the whole process)"]) > 50  # torch alone takes more
    forward = value(rows["compute", "forward pass of training, autoregressive"])
    step = value(rows["compute", "training, autoregressive"])
    assert 2 < step / forward < 3.1  # backward costs up to twice forward
    share = 100 * step * autoregressive / value(rows["compute", "matrix product, float32"])
    assert value(rows["compute", "training, autoregressive, share of the float32 rate"]) == pytest.approx(share, rel=0.02)
    building = value(rows["cache", "building the frame cache, 6 images"])
    decoding = value(rows["cache", "decoding and resizing alone"])
    assert value(rows["cache", "building / decoding alone"]) == pytest.approx(100 * building / decoding, rel=0.02)


def test_the_robot_is_measured_without_the_course_network(capsys, rendered_robot, yardstick):
    speed.main(["--DR", str(rendered_robot), "--only", "train", "rollout", "compute", "--rounds", "1", "--steps", "1",
                "--matrix", "32", "--rollout_frames", "4", "--yardstick", str(yardstick),
                "--", "--model", "svg_fp", "--amp", "none", *SMALL_SVG])  # fmt: skip
    printed = capsys.readouterr().out
    assert "omitted: --model svg_fp does not predict frames from pose images" in printed
    assert "| rollout, one sequence, share of the float32 rate | % |" in printed


def test_without_the_course_network_its_rows_are_omitted(capsys, rendered, tmp_path):
    rows = run_speed(capsys, rendered, "--only", "train", "--rounds", "1", "--yardstick", tmp_path / "none.py")
    assert rows["train", "course network, float32, autoregressive"][1] == "omitted: --yardstick none.py: no such file"
    assert not any("/ course network" in name for _, name in rows)
    assert value(rows["train", "autoregressive"]) > 0


def test_parts_can_be_skipped(capsys, rendered):
    assert {part for part, _ in run_speed(capsys, rendered, "--skip", "train", "rollout", "memory", "compute")} == {"cache"}


@pytest.mark.parametrize("main, more", [(speed.main, []), (curves.main, ["--out", "."])])
def test_a_wrong_folder_is_refused_in_one_line(capsys, tmp_path, main, more):
    assert "no such folder" in refused(capsys, main, ["--DR", tmp_path / "none", *more])


def test_a_file_without_a_course_network_is_refused(capsys, rendered, tmp_path):
    (tmp_path / "other.py").write_text("x = 1")
    argv = ["--DR", rendered, "--only", "train", "--yardstick", tmp_path / "other.py", "--", *SMALL]
    with pytest.raises(SystemExit):
        speed.main([str(part) for part in argv])
    assert "expected a definition of CourseNetwork, got none" in capsys.readouterr().err


@pytest.mark.slow
def test_curves_continue_after_a_point_that_fails(capsys, rendered, tmp_path):
    """The contiguous segments of the demo data have 20 frames, so no clip of 500 frames exists."""
    out = tmp_path / "curves"
    curves.main(["--DR", str(rendered), "--out", str(out), "--only", "clip", "frames", "--steps", "1", "--clip", "500", "3",
                 "--frames", "70", "--", *SMALL])  # fmt: skip
    rows = json.loads((out / "curves.json").read_text())["rows"]
    keys = {"curve", "value", "x", "seconds_per", "seconds", "start_up", "peak_mib", "imports_mib", "memory_of", "precision",
            "problem"}  # fmt: skip
    assert [set(row) for row in rows] == [keys] * 3
    assert [(row["curve"], row["x"]) for row in rows] == [("clip", 500), ("clip", 3), ("frames", 70)]
    assert rows[0]["seconds"] is None and "at least 500 consecutive frames (--train_vi_len), got at most 20" in rows[0]["problem"]
    for row in rows[1:]:
        assert row["problem"] is None and row["seconds"] > 0 and row["start_up"] > 0
        assert row["peak_mib"] >= row["imports_mib"] > 50  # torch alone takes more
    printed = capsys.readouterr().out
    assert printed == (out / "curves.md").read_text() and "| clip | 3 |" in printed and "per batch of the loader" in printed
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in out.iterdir()) == ["curves.json", "curves.md", "curves.png"]


def test_repeated_frames_are_one_contiguous_segment(rendered, tmp_path):
    """40 training frames are repeated to 100: frame i is frame i % 40, and so is its pose."""
    images = DanceSplit.load(rendered, "train", height=32, width=64, cache_dir=tmp_path).images
    curves.write_repeated(images, 100, tmp_path / "train.npy")
    split = point.file_split(tmp_path / "train.npy")
    assert np.array_equal(split.images, images[:, np.arange(100) % 40])
    clips = clips_of(split, reference="clip")
    assert len(clips.starts) == 96 and len(clips) == 20


@pytest.mark.parametrize("status, stderr, expected", [
    (-9, "", "out of memory"),
    (1, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\n", "out of memory"),
    (1, "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes\n", "out of memory"),
    (1, "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 1 GiB\n", "out of memory"),
    (1, "a warning\nerror: data: no such folder\n", "data: no such folder"),
    (3, "", "ended with status 3"),
])  # fmt: skip
def test_the_reason_why_a_process_failed(status, stderr, expected):
    assert processes.failure_reason(status, stderr) == expected


def test_the_row_of_a_point_that_ran_out_of_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(curves, "run_point", lambda *_: {"problem": "out of memory"})
    (point,) = curves.points_of(Namespace(only=["size"], size=[(128, 256)], clip=[8], batch=[1], frames=[630]))
    row = curves.measure(point, Namespace(DR=tmp_path, trainer_flags=[], steps=1), Namespace())
    assert (row["value"], row["x"], row["seconds"]) == ("128x256", 128 * 256, None)
    assert curves.table([row]).splitlines()[-1] == "| size | 128x256 |  |  |  |  |  | out of memory |"
    curves.draw([row], tmp_path / "curves.png")
