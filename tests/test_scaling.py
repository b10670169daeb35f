"""Epochs on paper against values by hand; whole runs, most of them by stand-ins for Trainer.py; no times are asserted."""

import subprocess
from argparse import Namespace

import pytest
import torch

from benchmarks import overhead, scaling
from benchmarks.common import cluster, flops
from tests.helpers.refusals import refused
from tests.helpers.settings import ROOT, SMALL, SMALL_SVG

# 100 bytes of gradients, 10 bytes/s within a node of 8, 5 between nodes, 0.5 s a hop, all in one collective.
SLOW = cluster.Cluster(node_gpus=8, node=10.0, net=5.0, latency=0.5, bucket=100.0)
WORK = cluster.Work(compute=4.0, loading=1.0, aside=False, gradients=100, clips=2, length=4)
STAND_IN = """
import sys, time
from pathlib import Path
flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert not Path(flags["--save_root"]).exists() and flags["--tfr_d_step"] == "0"
Path(flags["--save_root"]).mkdir()
time.sleep(0.3 * int(flags["--num_epoch"]))
"""


def test_an_epoch_is_one_pass_in_clips():
    """23,410 / 4 = 5,852 whole clips: 366 steps of 16, and of 64 * 16 at once 6; less than one clip is still a step."""
    assert cluster.steps_of_epoch(23_410, length=4, clips=16, gpus=1) == 366
    assert cluster.steps_of_epoch(23_410, length=4, clips=16, gpus=64) == 6
    assert cluster.steps_of_epoch(3, length=4, clips=16, gpus=8) == 1


def test_a_ring_sends_twice_the_gradients_less_a_share():
    assert [cluster.ring_bytes(100, gpus) for gpus in (1, 2, 4)] == [0, 100, 150]


def test_a_ring_is_as_fast_as_its_slowest_link():
    """4 GPUs: 150 bytes at 10 a second, 6 hops of 0.5 s. 16 on two nodes: 187.5 bytes at 5, 30 hops. 1: nothing."""
    assert cluster.ring_seconds(100, 1, SLOW) == 0
    assert cluster.ring_seconds(100, 4, SLOW) == pytest.approx(15 + 3)
    assert cluster.ring_seconds(100, 16, SLOW) == pytest.approx(37.5 + 15)
    assert cluster.ring_seconds(100, 4, SLOW._replace(bucket=40.0)) == pytest.approx(15 + 3 * 3)


@pytest.mark.parametrize("aside, overlap, communication, expected", [
    (False, False, 3.0, 8.0),  # 4 + 3, then 1 of loading
    (False, True, 3.0, 5.0),  # 3 within 4, then 1
    (True, False, 3.0, 7.0),  # 1 within 4 + 3
    (True, True, 6.0, 6.0),
])  # fmt: skip
def test_what_goes_on_beside_what(aside, overlap, communication, expected):
    assert cluster.step_seconds(WORK._replace(aside=aside), communication, overlap=overlap) == expected


def test_a_slow_loader_is_what_a_step_takes():
    assert cluster.step_seconds(WORK._replace(aside=True, loading=9.0), 3.0, overlap=False) == 9.0


def test_an_epoch_on_paper():
    """40 frames are 10 clips: 5 steps of 4 + 1 s alone; on 4 GPUs 2 steps of 4 + 18 + 1 s, overlapped of 18 + 1 s."""
    assert cluster.on_paper(WORK, SLOW, gpus=1, frames=40) == (5, 0, 0, 25, 25)
    assert cluster.on_paper(WORK, SLOW, gpus=4, frames=40) == pytest.approx((2, 150, 18, 46, 38))
    assert cluster.efficiency(25, 46, 4) == pytest.approx(100 * 25 / 184)


def test_a_step_on_a_gpu_is_arithmetic_or_launches_whichever_is_longer():
    assert cluster.compute_on_gpu(4e12, 1000, tflops=2, launch_us=10) == pytest.approx(2.0)
    assert cluster.compute_on_gpu(4e9, 1000, tflops=2, launch_us=10) == pytest.approx(0.01)
    assert cluster.weighted(0.25, 4.0, 8.0) == 7.0


@pytest.mark.parametrize(
    "seconds, expected", [(0.5, "0.5 s"), (119, "119 s"), (180, "3 min"), (7200, "2 h"), (864_000, "10 days")]
)
def test_a_span_of_time_in_its_unit(seconds, expected):
    assert scaling.span(seconds) == expected


def test_operators_are_counted_without_views_and_empty_tensors():
    """A product and a sum; backward, the 1 that it begins with and two products. Spreading the 1 out is a view."""
    a, b = (torch.rand(4, 4, requires_grad=True) for _ in "ab")
    assert flops.count_operators(lambda: torch.empty(3).view(1, 3).t()) == 0
    assert flops.count_operators(lambda: (a.detach() * b.detach()).sum()) == 2
    assert flops.count_operators(lambda: (a * b).sum().backward()) == 5


def test_bytes_of_each_of_many():
    """A list of a million references to one object: 8 bytes each, and no more while it is made."""
    kept, most = scaling.bytes_each(lambda: [None] * 1_000_000, 1_000_000)
    assert kept == pytest.approx(8, rel=0.01) and most == pytest.approx(8, rel=0.01)


def cells(printed: str, title: str) -> list[list[str]]:
    """The lines of the table under its title."""
    lines = printed.split(f"**{title}**")[1].strip().split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_scaling_on_real_steps(capsys, rendered):
    """40 frames are 8 clips of 5, 3 to a batch: 3 steps, on 8 GPUs one. The table follows from what is printed above it."""
    scaling.main(["--DR", str(rendered), "--rounds", "1", "--steps", "1", "--batches", "2", "--frames", "40", "100000000",
                  "--gpus", "1", "8", "--gpu_tflops", "1e-3", "--", *SMALL, "--batch_size", "3"])  # fmt: skip
    printed = capsys.readouterr().out
    found = {what: float(value.replace(",", "")) for what, _, value, _ in cells(printed, "measured and counted")}
    assert found["gradients"] == pytest.approx(4e-6 * found["parameters"], rel=0.01)
    assert found["a step on the assumed GPU: arithmetic"] == pytest.approx(
        1e3 * found["arithmetic of a step over the recipe"], rel=0.02
    )
    assert found["operators of a step over the recipe"] > 100
    table = cells(printed, "an epoch, on paper")
    assert [row[0] for row in table] == ["this machine, as measured", "1", "8"] * 2
    assert [row[2:4] for row in table[:3]] == [["12", "3"], ["12", "3"], ["96", "1"]]
    assert float(table[2][7]) == pytest.approx(2 * 7 / 8 * found["gradients"], rel=0.02)
    assert table[1][10:] == ["100 %", "100 %"] and table[0][10:] == ["", ""]
    data = cells(printed, "its data")
    # 100 million pairs of 32 x 64 pixels in three colours; a start's tuple and its place in the list take 64 bytes at least.
    assert data[1][:2] == ["100,000,000", "1,229"]
    kept, most, node = (float(cell.replace(",", "")) for cell in data[1][3:6])
    assert 6.4 < kept <= most and node == pytest.approx(8 * most, rel=0.01)
    assert "| 0.001 | --gpu_tflops |" in printed


def test_scaling_of_the_robot(capsys, rendered_robot):
    scaling.main(
        ["--DR", str(rendered_robot), "--rounds", "1", "--steps", "1", "--batches", "1", "--", "--model", "svg_fp", *SMALL_SVG]
    )
    # One picture a frame: 64 x 64 x 3.
    assert cells(capsys.readouterr().out, "its data")[1][1] == "1,229"


@pytest.mark.parametrize("flags, expected", [
    (["--accumulate", "2"], "--accumulate 2: found behind --; expected 1"),
    (["--compile"], "--compile: found behind --; expected none on a CPU"),
])  # fmt: skip
def test_what_scaling_cannot_count_is_refused(capsys, rendered, flags, expected):
    assert expected in refused(capsys, scaling.main, ["--DR", rendered, "--", *SMALL, *flags])


def stand_in(folder, text: str):
    """A checkout that is nothing but this Trainer.py."""
    folder.mkdir()
    (folder / "Trainer.py").write_text(text)
    return folder


def test_only_what_the_longer_run_has_more_counts_as_training():
    assert overhead.trained_alone([5.0, 6.0], [8.0, 8.5]) == [3.0, 2.5]
    with pytest.raises(overhead.UserError, match="the longer run took no longer"):
        overhead.trained_alone([5.0, 6.0], [8.0, 6.0])


def test_two_checkouts_take_turns_with_both_lengths(monkeypatch):
    """Start-up of 2 s here and 1 s there, epochs of 3 s here and 2 s there."""
    calls = []

    def run(side, epochs, scratch):
        calls.append((side.checkout, epochs))
        return {"here": 2 + 3 * epochs, "there": 1 + 2 * epochs}[side.checkout]

    monkeypatch.setattr(overhead, "run_seconds", run)
    options = Namespace(epochs=[1, 4], rounds=2, scratch=None)
    rows = overhead.measure(options, {"ours": overhead.Side("here", []), "theirs": overhead.Side("there", [])})
    assert calls == [("here", 1), ("there", 1), ("here", 4), ("there", 4)] * 3
    found = {row.what: row.values for row in rows}
    assert found["whole process, --num_epoch 4: ratio"] == pytest.approx([14 / 9] * 2)
    assert found["training alone, the 4 epochs less the 1: ours"] == [9, 9]
    assert found["training alone, the 4 epochs less the 1: ratio"] == pytest.approx([1.5, 1.5])


def test_flags_of_one_side_stay_there(tmp_path):
    options = Namespace(DR=tmp_path, other=None, ours="--val_every 2", processes=1, trainer_flags=["--seed", "3"])
    (ours, theirs), names = overhead.two_sides(options).values(), list(overhead.two_sides(options))
    assert ours == (ROOT, [*theirs.flags, "--val_every", "2"], 1) and theirs.flags[-2:] == ["--seed", "3"]
    assert names == ["this checkout with --val_every 2", "the same, without"]


def test_several_processes_are_started_by_torchrun(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(overhead.subprocess, "run", lambda command, **_: seen.append(command) or Namespace(returncode=0))
    options = Namespace(DR=tmp_path, other=None, ours="", processes=2, trainer_flags=[])
    for name, side in overhead.two_sides(options).items():
        overhead.run_seconds(side, 1, None)
        assert ("in 2 processes" in name) is ("--nproc_per_node" in seen[-1])
    assert seen[0][1:6] == ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] and len(seen) == 2


def test_overhead_of_stand_ins(capsys, monkeypatch, tmp_path):
    """Nothing is left of any run; both sides and their ratio stand in the table."""
    ours, theirs, scratch = stand_in(tmp_path / "a", STAND_IN), stand_in(tmp_path / "b", STAND_IN), tmp_path / "scratch"
    monkeypatch.setattr(overhead, "ROOT", ours)
    overhead.main(
        ["--DR", str(tmp_path), "--other", str(theirs), "--rounds", "1", "--epochs", "1", "3", "--scratch", str(scratch)]
    )
    measured = cells(capsys.readouterr().out, "overhead")
    assert [row[0].split(": ")[1] for row in measured] == ["this checkout", "the other checkout", "ratio"] * 3
    whole, less, ratio = float(measured[0][2]), float(measured[3][2]), float(measured[8][2])
    assert float(measured[6][2]) == pytest.approx(whole - less, abs=0.03) and ratio > 0
    assert not list(scratch.iterdir())


def test_a_failing_run_ends_in_its_last_line(capsys, monkeypatch, tmp_path):
    broken = stand_in(tmp_path / "broken", "import sys\nsys.exit('a warning\\nerror: no such flag here')")
    monkeypatch.setattr(overhead, "ROOT", stand_in(tmp_path / "a", ""))
    with pytest.raises(overhead.UserError, match=r"broken.Trainer.py: failed with --num_epoch 1: no such flag here"):
        overhead.run_seconds(overhead.Side(broken, []), 1, None)
    assert refused(capsys, overhead.main, ["--DR", tmp_path, "--other", broken, "--rounds", "1"]).endswith("no such flag here")


@pytest.mark.parametrize("options, expected", [
    (["--epochs", "4", "4"], "--epochs 4 4: expected the shorter length first"),
    (["--other", "nowhere"], "--other nowhere: no Trainer.py in it"),
    (["--", "--test", "--ckpt_path", "run"], "--test, --ckpt_path: found behind --"),
])  # fmt: skip
def test_what_cannot_be_compared_is_refused(capsys, tmp_path, options, expected):
    assert expected in refused(capsys, overhead.main, ["--DR", tmp_path, *options])


@pytest.mark.slow
def test_a_real_training_is_timed(rendered, tmp_path):
    """The stand-ins' flags are those of the real Trainer.py."""
    flags = ["--DR", str(rendered), *overhead.EPOCHS_ALIKE, *SMALL]
    assert overhead.run_seconds(overhead.Side(ROOT, flags), 1, tmp_path) > 0.5  # importing torch takes longer
    assert not list(tmp_path.iterdir())


def test_without_git_a_version_is_unknown(monkeypatch, tmp_path):
    def missing(*_, **__):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    assert overhead.version_of(tmp_path) == "unknown"
