"""scaling.py against hand-computed values; overhead.py and turns.py, mostly with fake checkouts. No test asserts a duration."""

import subprocess
from argparse import Namespace

import pytest
import torch

from benchmarks import overhead, scaling, turns
from benchmarks.common import cluster, flops
from tests.helpers.refusals import refused
from tests.helpers.settings import ROOT, SMALL, SMALL_SVG

# 100 bytes of gradients, 10 bytes/s within a node of 8, 5 between nodes, 0.5 s per hop, all in one collective.
SLOW = cluster.Cluster(node_gpus=8, node_bandwidth=10.0, network_bandwidth=5.0, hop_latency=0.5, bucket_bytes=100.0)
STEP = cluster.StepCost(compute=4.0, loading=1.0, parallel_loading=False, gradient_bytes=100, clips=2, length=4)
FAKE_TRAINER = """
import sys, time
from pathlib import Path
flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert not Path(flags["--save_root"]).exists() and flags["--tfr_d_step"] == "0"
Path(flags["--save_root"]).mkdir()
time.sleep(0.3 * int(flags["--num_epoch"]))
"""


def test_an_epoch_is_one_pass_over_the_frames():
    """23,410 / 4 = 5,852 whole clips are 366 steps of 16 clips, or 6 of 64 * 16. Fewer frames than one clip are still a step."""
    assert cluster.steps_per_epoch(23_410, length=4, clips=16, gpus=1) == 366
    assert cluster.steps_per_epoch(23_410, length=4, clips=16, gpus=64) == 6
    assert cluster.steps_per_epoch(3, length=4, clips=16, gpus=8) == 1


def test_the_bytes_that_each_process_sends_in_a_ring():
    assert [cluster.ring_bytes(100, gpus) for gpus in (1, 2, 4)] == [0, 100, 150]


def test_a_ring_is_as_fast_as_its_slowest_link():
    """4 GPUs: 150 bytes at 10 bytes/s, 6 hops of 0.5 s. 16 GPUs on two nodes: 187.5 bytes at 5 bytes/s, 30 hops. 1 GPU: 0 s."""
    assert cluster.ring_seconds(100, 1, SLOW) == 0
    assert cluster.ring_seconds(100, 4, SLOW) == pytest.approx(15 + 3)
    assert cluster.ring_seconds(100, 16, SLOW) == pytest.approx(37.5 + 15)
    assert cluster.ring_seconds(100, 4, SLOW._replace(bucket_bytes=40.0)) == pytest.approx(15 + 3 * 3)


@pytest.mark.parametrize("parallel_loading, overlap, communication, expected", [
    (False, False, 3.0, 8.0),  # 4 + 3, then 1 of loading
    (False, True, 3.0, 5.0),  # 3 during 4, then 1
    (True, False, 3.0, 7.0),  # 1 during 4 + 3
    (True, True, 6.0, 6.0),
])  # fmt: skip
def test_loading_and_communication_can_overlap_with_compute(parallel_loading, overlap, communication, expected):
    cost = STEP._replace(parallel_loading=parallel_loading)
    assert cluster.step_seconds(cost, communication, overlap=overlap) == expected


def test_a_slow_loader_determines_the_step():
    assert cluster.step_seconds(STEP._replace(parallel_loading=True, loading=9.0), 3.0, overlap=False) == 9.0


def test_an_estimated_epoch():
    """40 frames are 10 clips. One GPU: 5 steps of 4 + 1 s. 4 GPUs: 2 steps of 4 + 18 + 1 s, with overlap of 18 + 1 s."""
    assert cluster.estimate_epoch(STEP, SLOW, gpus=1, frames=40) == (5, 0, 0, 25, 25)
    assert cluster.estimate_epoch(STEP, SLOW, gpus=4, frames=40) == pytest.approx((2, 150, 18, 46, 38))
    assert cluster.efficiency(25, 46, 4) == pytest.approx(100 * 25 / 184)


def test_a_step_on_a_gpu_takes_the_longer_of_arithmetic_and_launches():
    assert cluster.gpu_compute_seconds(4e12, 1000, tflops=2, launch_us=10) == pytest.approx(2.0)
    assert cluster.gpu_compute_seconds(4e9, 1000, tflops=2, launch_us=10) == pytest.approx(0.01)
    assert cluster.recipe_mean(0.25, 4.0, 8.0) == 7.0


@pytest.mark.parametrize(
    "seconds, expected", [(0.5, "0.5 s"), (119, "119 s"), (180, "3 min"), (7200, "2 h"), (864_000, "10 days")]
)
def test_a_duration_in_its_most_readable_unit(seconds, expected):
    assert scaling.span(seconds) == expected


def test_operators_are_counted_without_views_and_empty_tensors():
    """A product and a sum; backward adds its initial 1 and two products. Expanding the 1 is a view."""
    a, b = (torch.rand(4, 4, requires_grad=True) for _ in "ab")
    assert flops.count_operators(lambda: torch.empty(3).view(1, 3).t()) == 0
    assert flops.count_operators(lambda: (a.detach() * b.detach()).sum()) == 2
    assert flops.count_operators(lambda: (a * b).sum().backward()) == 5


def test_the_memory_of_a_list_is_measured_per_item():
    """A list of a million references to one object takes 8 bytes per reference, also at its peak."""
    kept, peak = scaling.bytes_per_item(lambda: [None] * 1_000_000, 1_000_000)
    assert kept == pytest.approx(8, rel=0.01) and peak == pytest.approx(8, rel=0.01)


def cells(printed: str, title: str) -> list[list[str]]:
    """Return the cells of the table with this title."""
    lines = printed.split(f"**{title}**")[1].strip().split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_scaling_on_real_steps(capsys, rendered):
    """40 frames are 8 clips of 5, 3 per batch: 3 steps, on 8 GPUs one. The estimates follow from the values printed above them."""
    scaling.main(["--DR", str(rendered), "--rounds", "1", "--steps", "1", "--batches", "2", "--frames", "40", "100000000",
                  "--gpus", "1", "8", "--gpu_tflops", "1e-3", "--", *SMALL, "--batch_size", "3"])  # fmt: skip
    printed = capsys.readouterr().out
    found = {name: float(value.replace(",", "")) for name, _, value, _ in cells(printed, "measured and counted")}
    assert found["gradients"] == pytest.approx(4e-6 * found["parameters"], rel=0.01)
    arithmetic = 1e3 * found["arithmetic of the mean step"]
    assert found["mean step on the assumed GPU: arithmetic"] == pytest.approx(arithmetic, rel=0.02)
    assert found["operators of the mean step"] > 100
    table = cells(printed, "estimated epoch")
    assert [row[0] for row in table] == ["this machine, as measured", "1", "8"] * 2
    assert [row[2:4] for row in table[:3]] == [["12", "3"], ["12", "3"], ["96", "1"]]
    assert float(table[2][7]) == pytest.approx(2 * 7 / 8 * found["gradients"], rel=0.02)
    assert table[1][10:] == ["100 %", "100 %"] and table[0][10:] == ["", ""]
    data = cells(printed, "data of an epoch")
    # 100 million pairs of images of 32 x 64 pixels in three colors; a clip's start takes at least 64 bytes in the list.
    assert data[1][:2] == ["100,000,000", "1,229"]
    kept, peak, node = (float(cell.replace(",", "")) for cell in data[1][3:6])
    assert 6.4 < kept <= peak and node == pytest.approx(8 * peak, rel=0.01)
    assert "| 0.001 | --gpu_tflops |" in printed


def test_scaling_of_the_robot(capsys, rendered_robot):
    scaling.main(
        ["--DR", str(rendered_robot), "--rounds", "1", "--steps", "1", "--batches", "1", "--", "--model", "svg_fp", *SMALL_SVG]
    )
    # One image per frame: 64 x 64 x 3 bytes.
    assert cells(capsys.readouterr().out, "data of an epoch")[1][1] == "1,229"


@pytest.mark.parametrize("flags, expected", [
    (["--accumulate", "2"], "--accumulate 2: expected 1 after --"),
    (["--compile"], "--compile: not expected after -- on a CPU"),
])  # fmt: skip
def test_flags_that_scaling_cannot_count_are_refused(capsys, rendered, flags, expected):
    assert expected in refused(capsys, scaling.main, ["--DR", rendered, "--", *SMALL, *flags])


def fake_checkout(folder, text: str):
    """Make a checkout that contains only a Trainer.py with this text."""
    folder.mkdir()
    (folder / "Trainer.py").write_text(text)
    return folder


def test_only_the_additional_epochs_count_as_training():
    assert overhead.training_alone([5.0, 6.0], [8.0, 8.5]) == [3.0, 2.5]
    with pytest.raises(overhead.UserError, match="a longer run that took no longer"):
        overhead.training_alone([5.0, 6.0], [8.0, 6.0])


def test_two_checkouts_take_turns_with_both_numbers_of_epochs(monkeypatch):
    """Start-up takes 2 s here and 1 s there, an epoch 3 s here and 2 s there."""
    calls = []

    def run(side, epochs, scratch):
        calls.append((side.checkout, epochs))
        return {"here": 2 + 3 * epochs, "there": 1 + 2 * epochs}[side.checkout]

    monkeypatch.setattr(overhead, "run_seconds", run)
    options = Namespace(epochs=[1, 4], rounds=2, scratch=None)
    rows = overhead.measure(options, {"ours": overhead.Side("here", []), "theirs": overhead.Side("there", [])})
    assert calls == [("here", 1), ("there", 1), ("here", 4), ("there", 4)] * 3
    found = {row.name: row.values for row in rows}
    assert found["whole process, --num_epoch 4: ratio"] == pytest.approx([14 / 9] * 2)
    assert found["training alone, 4 epochs minus 1: ours"] == [9, 9]
    assert found["training alone, 4 epochs minus 1: ratio"] == pytest.approx([1.5, 1.5])


def test_additional_flags_are_for_this_checkout_alone(tmp_path):
    options = Namespace(DR=tmp_path, other=None, ours="--val_every 2", processes=1, trainer_flags=["--seed", "3"])
    (ours, theirs), names = overhead.two_sides(options).values(), list(overhead.two_sides(options))
    assert ours == (ROOT, [*theirs.flags, "--val_every", "2"], 1) and theirs.flags[-2:] == ["--seed", "3"]
    assert names == ["this checkout with --val_every 2", "this checkout"]


def test_several_processes_are_started_by_torchrun(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(overhead.subprocess, "run", lambda command, **_: seen.append(command) or Namespace(returncode=0))
    options = Namespace(DR=tmp_path, other=None, ours="", processes=2, trainer_flags=[])
    for name, side in overhead.two_sides(options).items():
        overhead.run_seconds(side, 1, None)
        assert ("in 2 processes" in name) is ("--nproc_per_node" in seen[-1])
    assert seen[0][1:6] == ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] and len(seen) == 2


@pytest.mark.slow
def test_overhead_of_fake_checkouts(capsys, monkeypatch, tmp_path):
    """The table has both sides and their ratio, and the runs are removed."""
    ours, theirs = fake_checkout(tmp_path / "a", FAKE_TRAINER), fake_checkout(tmp_path / "b", FAKE_TRAINER)
    scratch = tmp_path / "scratch"
    monkeypatch.setattr(overhead, "ROOT", ours)
    overhead.main(
        ["--DR", str(tmp_path), "--other", str(theirs), "--rounds", "1", "--epochs", "1", "3", "--scratch", str(scratch)]
    )
    measured = cells(capsys.readouterr().out, "overhead")
    assert [row[0].split(": ")[1] for row in measured] == ["this checkout", "the other checkout", "ratio"] * 3
    whole, less, ratio = float(measured[0][2]), float(measured[3][2]), float(measured[8][2])
    assert float(measured[6][2]) == pytest.approx(whole - less, abs=0.03) and ratio > 0
    assert not list(scratch.iterdir())


def test_a_failed_run_is_reported_with_its_last_line(capsys, monkeypatch, tmp_path):
    broken = fake_checkout(tmp_path / "broken", "import sys\nsys.exit('a warning\\nerror: no such flag here')")
    monkeypatch.setattr(overhead, "ROOT", fake_checkout(tmp_path / "a", ""))
    with pytest.raises(overhead.UserError, match=r"broken.Trainer.py: failed with --num_epoch 1: no such flag here"):
        overhead.run_seconds(overhead.Side(broken, []), 1, None)
    assert refused(capsys, overhead.main, ["--DR", tmp_path, "--other", broken, "--rounds", "1"]).endswith("no such flag here")


@pytest.mark.parametrize("options, expected", [
    (["--epochs", "4", "4"], "--epochs 4 4: expected the smaller number first"),
    (["--other", "nowhere"], "--other nowhere: expected a checkout of this repository"),
    (["--", "--test", "--ckpt_path", "run"], "--test, --ckpt_path: expected neither after --"),
])  # fmt: skip
def test_runs_that_cannot_be_compared_are_refused(capsys, tmp_path, options, expected):
    assert expected in refused(capsys, overhead.main, ["--DR", tmp_path, *options])


@pytest.mark.slow
def test_a_real_training_is_timed(rendered, tmp_path):
    """The real Trainer.py accepts the flags that the fake ones receive."""
    flags = ["--DR", str(rendered), *overhead.CONSTANT_RATIO, *SMALL]
    assert overhead.run_seconds(overhead.Side(ROOT, flags), 1, tmp_path) > 0.5  # importing torch takes longer
    assert not list(tmp_path.iterdir())


def test_without_git_the_version_is_unknown(monkeypatch, tmp_path):
    def missing(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    assert overhead.version_of(tmp_path) == "unknown"


# A checkout in each of the two layouts, whose steps take 2 s teacher-forced and 3 s autoregressive.
FAKE_MEASURE = """
from types import SimpleNamespace
from {package} import SECONDS

def parse_flags(argv):
    return argv

def new_trainer(flags):
    return flags

def batches(trainer):
    return iter(())

def train_steps(trainer, source, steps, *, forced):
    assert trainer == ["--DR", "data"]
    return SimpleNamespace(seconds=steps * SECONDS[forced])
"""


@pytest.mark.parametrize("layout, package", [("benchmarks/common", "benchmarks.common.times"), ("benchmarks", "times")])
def test_turns_with_the_new_and_the_old_layout(tmp_path, layout, package):
    """Until benchmarks/common/ existed, measure.py was in benchmarks/ and had that folder on sys.path."""
    folder = tmp_path / layout
    folder.mkdir(parents=True)
    for package_folder in {tmp_path / "benchmarks", folder}:
        (package_folder / "__init__.py").touch()
    (folder / "times.py").write_text("SECONDS = {True: 2.0, False: 3.0}")
    (folder / "measure.py").write_text(FAKE_MEASURE.format(package=package))
    server = turns.Server(tmp_path, ["--DR", "data"])
    try:
        rows = turns.measure_turns(server, server, steps=2, rounds=3)
    finally:
        server.process.kill()
    values = {row.name: row.values for row in rows}
    assert values["teacher-forced: this checkout"] == values["teacher-forced: the other checkout"] == [2000.0] * 3
    assert values["autoregressive: this checkout"] == [3000.0] * 3 and values["autoregressive: ratio"] == [1.0] * 3


def test_turns_report_why_a_process_ended(tmp_path):
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "measure.py").write_text("import sys\nsys.exit('error: no such flag here')")
    with pytest.raises(turns.UserError, match="no such flag here"):
        turns.Server(tmp_path, []).train(1, forced=True)


def test_turns_refuse_a_folder_that_is_not_a_checkout(capsys, tmp_path):
    assert "expected a checkout of this repository" in refused(capsys, turns.main, ["--DR", tmp_path, "--other", tmp_path])
