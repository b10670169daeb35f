"""Data-parallel training in several processes, on a CPU with gloo: the result equals that of one process, and all end together."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch

from dataloader import ClipBatches
from runtime.distributed import Ranks
from tests.helpers.runs import TINY, differences, finish, run_differences, start, wait_for_checkpoint
from tests.helpers.settings import ROOT, SMALL_SVG
from training.checkpoints import load_checkpoint
from training.metrics_log import read_metrics

pytestmark = pytest.mark.skipif(os.name == "nt", reason="torchrun's processes are stopped by POSIX signals")
# Flags of a run whose differences can come only from the clips and their seeds.
ALONE = ["--epoch_size", "5", "--num_epoch", "2", "--save_root", "run", "--distortion", "mse", "--val_vi_len", "4"]


@pytest.mark.parametrize("clips", [1, 7, 12, 13, 40])
@pytest.mark.parametrize("world, accumulate", [(1, 1), (2, 1), (3, 2), (8, 3)])
def test_the_order_of_the_clips_does_not_depend_on_the_number_of_processes(clips, world, accumulate):
    """Their weights do not either: every clip of a step has the same weight, regardless of the process that trains with it."""
    alone = [key for batch in ClipBatches(clips, batch_size=4, accumulate=1, seed=3) for key in batch]
    ranks = [ClipBatches(clips, batch_size=4, accumulate=accumulate, seed=3, rank=rank, world=world) for rank in range(world)]
    together, weights, step = [], [], []
    for batches, places in zip(zip(*ranks), zip(*(rank.positions() for rank in ranks))):
        assert len({position._replace(loss_weight=0) for position in places}) == 1
        for batch, position in zip(batches, places):
            assert 1 <= len(batch) <= 4
            own = batch if position.loss_weight else []
            together += own
            step += [position.loss_weight / world / len(batch)] * len(
                own
            )  # DistributedDataParallel divides by the number of processes
        if places[0].completes_step:
            weights.append(step)
            step = []
    assert together == alone and not step
    assert all(weight == pytest.approx(1 / len(step)) for step in weights for weight in step)


@pytest.mark.parametrize("first", [0, 5, 8])
def test_an_interrupted_epoch_resumes_with_the_remaining_clips(first):
    """The number of processes may change in between."""
    alone = [key for batch in ClipBatches(13, batch_size=4, accumulate=1, seed=3) for key in batch]
    ranks = [ClipBatches(13, batch_size=2, accumulate=2, seed=3, rank=rank, world=2) for rank in range(2)]
    for rank in ranks:
        rank.set_epoch(0, first_clip=first)
    together = [key for batches, places in zip(zip(*ranks), zip(*(r.positions() for r in ranks)))
                for batch, position in zip(batches, places) if position.loss_weight for key in batch]  # fmt: skip
    assert together == alone[first:] and [len(rank) for rank in ranks] == [-(-(13 - first) // 4)] * 2


def test_a_single_process_needs_no_communication():
    ranks = Ranks()
    assert (ranks.rank, ranks.world, ranks.is_main) == (0, 1, True)
    assert (
        ranks.max_over_ranks(True, 3) == [1, 3]
        and ranks.gather_object("a") == ["a"]
        and ranks.broadcast_object("b") == "b"
        and ranks.rank_zero_first(lambda: "c") == "c"
    )
    ranks.close()


@pytest.fixture(scope="module")
def pair(rendered, tmp_path_factory):
    """Train the same run in one process with batches of 4 and in two with batches of 2; return both run folders."""
    folder = tmp_path_factory.mktemp("pair")
    sizes = [flag for flag in TINY if flag not in ("--batch_size", "2")]
    for name, size, processes in [("one", "4", 1), ("two", "2", 2)]:
        argv = ["--DR", str(rendered), *sizes, *ALONE, "--epoch_size", "5" if name == "one" else "10", "--batch_size", size]
        finish(start(folder / name, argv, processes=processes))
    return folder / "one" / "run", folder / "two" / "run"


@pytest.mark.slow
def test_two_processes_equal_one_with_the_doubled_batch(pair):
    """Weights, EMA weights, Adam's mean gradients and all metrics agree within the rounding of a different order of sums."""
    one, two = (load_checkpoint(folder / "last.ckpt") for folder in pair)
    assert one["step"] == two["step"] == 10
    for part in ("model", "ema"):
        for name, value in one[part].items():
            torch.testing.assert_close(two[part][name], value, atol=2e-4, rtol=2e-3)
    for key, state in one["optimiser"]["state"].items():
        torch.testing.assert_close(two["optimiser"]["state"][key]["exp_avg"], state["exp_avg"], atol=2e-5, rtol=2e-2)
    for a, b in zip(*(read_metrics(folder / "metrics.jsonl") for folder in pair)):
        assert a.keys() == b.keys() and a["step"] == b["step"]
        assert all(
            b[name] == pytest.approx(a[name], rel=2e-3)
            for name in ("loss", "mse", "kl", "beta", "forced", "val_psnr", "val_closing")
        )


@pytest.mark.slow
def test_the_gradients_of_two_processes_are_those_of_the_doubled_batch(rendered, tmp_path):
    """They are compared for the first step, teacher-forced and autoregressive, with noise.

    The last batch has a single clip, which two processes cannot share.
    """
    script = tmp_path / "gradients.py"
    script.write_text(f"""
import sys; sys.path[:0] = [{str(ROOT)!r}]
import torch, Trainer
from training.flags import parse_trainer_flags
from runtime.distributed import Ranks
from training.resume import StartPoint
ranks = Ranks()
trainer = Trainer.Trainer(parse_trainer_flags(sys.argv[2:])[0], StartPoint(), ranks)
trainer.batches.clips, found = 5, []
trainer.batches.set_epoch(0)
for forced in (True, False):
    for position, batch in trainer.loader:
        trainer.learner.accumulate_gradients(
            batch, teacher_forced=forced, beta=0.5, loss_weight=position.loss_weight, completes_step=position.completes_step
        )
        found.append([weights.grad.clone() for weights in trainer.learner.model.parameters()])
        trainer.learner.optimizer.zero_grad()
if ranks.is_main:
    torch.save(found, sys.argv[1])
ranks.close()
""")
    found = []
    for size, launcher in [("4", []), ("2", ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"])]:
        argv = ["--DR", str(rendered), "--save_root", "run", *TINY, "--batch_size", size]
        subprocess.run([sys.executable, *launcher, str(script), str(tmp_path / size), *argv], check=True, cwd=tmp_path,
                       env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True)  # fmt: skip
        found.append(torch.load(tmp_path / size))
    assert len(found[0]) == len(found[1]) == 4  # batches of 4 and 1, twice
    for one, two in zip(*found):
        for a, b in zip(one, two):
            torch.testing.assert_close(b, a, atol=1e-5 * max(1.0, a.abs().max().item()), rtol=1e-3)


@pytest.mark.slow
def test_two_processes_stop_at_the_same_step_and_resume_bit_for_bit(rendered, tmp_path, pair):
    """torchrun forwards SIGTERM to both. A single process can resume the run too, though not bit for bit."""
    sizes = [flag for flag in TINY if flag not in ("--batch_size", "2")]
    argv = ["--DR", str(rendered), *sizes, *ALONE, "--epoch_size", "10", "--batch_size", "2", "--save_minutes", "0"]
    run = start(tmp_path, argv, processes=2)
    wait_for_checkpoint(tmp_path, run)
    run.send_signal(signal.SIGTERM)
    _, errors = run.communicate(timeout=60)
    assert errors.count("stopped by SIGTERM") == 1 and run.returncode != 0
    state = load_checkpoint(tmp_path / "run" / "last.ckpt")
    assert 0 < state["step"] < 10 and state["progress"]["clips"] == 4 * (state["step"] - 5 * state["epoch"])
    shutil.copytree(tmp_path / "run", tmp_path / "run of one")
    finish(start(tmp_path, [*argv, "--resume"], processes=2))
    assert run_differences(pair[1], tmp_path / "run") == []
    finish(start(tmp_path, [*argv, "--resume", "--save_root", "run of one"]))
    one = load_checkpoint(tmp_path / "run of one" / "last.ckpt")
    assert one["epoch"] == 2 and differences(one["model"], state["model"])
    assert [row["epoch"] for row in read_metrics(tmp_path / "run of one" / "metrics.jsonl")] == [0, 1]


@pytest.mark.slow
def test_a_run_restarts_from_its_last_checkpoint_after_a_process_was_killed(rendered, tmp_path, pair):
    """torchrun restarts all processes, which resume; the result equals that of an uninterrupted run."""
    sizes = [flag for flag in TINY if flag not in ("--batch_size", "2")]
    argv = ["--DR", str(rendered), *sizes, *ALONE, "--epoch_size", "10", "--batch_size", "2", "--save_minutes", "0", "--resume"]
    run = start(tmp_path, argv, processes=2, torchrun=["--max_restarts", "2"])
    wait_for_checkpoint(tmp_path, run)
    workers = subprocess.run(["pgrep", "-P", str(run.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(workers[-1]), signal.SIGKILL)
    finish(run)
    assert run_differences(pair[1], tmp_path / "run") == []


@pytest.mark.slow
def test_bad_input_to_several_processes_is_reported_once(rendered, tmp_path):
    for more in (["--lr", "-1"], ["--DR", "nowhere"]):
        run = start(tmp_path, ["--DR", str(rendered), "--save_root", "run", *TINY, *more], processes=2)
        _, errors = run.communicate(timeout=240)
        assert run.returncode and errors.count("error: ") == 1, errors
        assert 'Traceback (most recent call last):\n  File "' + str(ROOT / "Trainer.py") not in errors
    assert json.dumps(sorted(path.name for path in tmp_path.glob("run/*.ckpt"))) == "[]"


def run_odd(tmp_path, rendered, oddity: str) -> subprocess.CompletedProcess:
    """Run a small training in two processes; the second one first executes `oddity`, Python code in one line."""
    script = tmp_path / "odd.py"
    script.write_text(f"import os, sys; sys.path[:0] = [{str(ROOT)!r}]\nimport torch, Trainer\nfrom training.learner import Learner\n"
                      f"argv = sys.argv[1:]\nif os.environ['RANK'] == '1':\n    {oddity}\nTrainer.main(argv)\n")  # fmt: skip
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script), "--DR", str(rendered),
               "--save_root", "run", *TINY, "--epoch_size", "8", "--num_epoch", "1"]  # fmt: skip
    return subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240
    )


@pytest.mark.slow
def test_a_non_finite_loss_in_one_process_skips_the_step_in_all(rendered, tmp_path):
    """The message names the batch, although the losses of the other process are finite."""
    poison = ("real, count = Learner.accumulate_gradients, []; Learner.accumulate_gradients = lambda self, batch, **more: count.append(1) or real(self, batch if len(count) != 2 "
              "else batch | {'conditions': torch.full(batch['conditions'].shape, torch.nan)}, **more)")  # fmt: skip
    done = run_odd(tmp_path, rendered, poison)
    assert done.returncode == 0 and "epoch 1, batch 2 with loss nan" in done.stderr, done.stderr
    (row,) = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert (row["skipped"], row["step"]) == ([1], 3)
    assert all(torch.isfinite(value).all() for value in load_checkpoint(tmp_path / "run" / "last.ckpt")["model"].values())


@pytest.mark.slow
def test_processes_with_different_settings_are_refused(rendered, tmp_path):
    """If a second machine had other data or flags, all processes would hang, or train a mixture of both settings."""
    done = run_odd(tmp_path, rendered, "argv += ['--lr', '0.1']")
    assert done.returncode and "lr: expected the same in all processes, got 0.003 in 0 and 0.1 in 1" in done.stderr


@pytest.mark.slow
def test_three_processes_resume_bit_for_bit(rendered, tmp_path):
    """With two processes, a sum is the same in any order. Here, there are also fewer validation sequences than processes."""
    argv = ["--DR", str(rendered), *TINY, *ALONE, "--epoch_size", "9", "--val_vi_len", "12"]
    finish(start(tmp_path / "whole", argv, processes=3))
    run = start(tmp_path / "cut", argv, processes=3)
    wait_for_checkpoint(tmp_path / "cut", run)
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=60)
    assert 0 < load_checkpoint(tmp_path / "cut" / "run" / "last.ckpt")["step"] < 6
    finish(start(tmp_path / "cut", [*argv, "--resume"], processes=3))
    assert run_differences(tmp_path / "whole" / "run", tmp_path / "cut" / "run") == []


@pytest.mark.slow
def test_all_processes_validate_with_the_statistics_of_the_first(rendered_robot, tmp_path):
    """Each process once used its own batch-norm statistics: the score was not that of the checkpoint, and changed on resume."""
    argv = ["--model", "svg_fp", "--DR", str(rendered_robot), "--save_root", "run", *SMALL_SVG, "--frame_H", "32", "--frame_W", "32",
            "--norm", "batch", "--ema", "0", "--epoch_size", "4"]  # fmt: skip
    finish(start(tmp_path, argv, processes=2))
    done = subprocess.run([sys.executable, str(ROOT / "Trainer.py"), *argv, "--test", "--ckpt_path", "run/last.ckpt"], cwd=tmp_path,
                          env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)  # fmt: skip
    assert f"val {read_metrics(tmp_path / 'run' / 'metrics.jsonl')[-1]['val_psnr']:.2f} dB" in done.stdout
