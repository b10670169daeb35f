"""What a training budget buys: trains with given flags and seeds, rolls out, and prints a table of scores.

    python benchmarks/quality.py --DR lab4_real --save_root runs/quality --minutes 5 --seeds 1 2
    python benchmarks/quality.py --DR lab4_real --save_root runs/search --epochs 20 --hold_out 2520-3149 -- --flip 0.5

Everything behind -- goes to Trainer.py. Settings are compared on --hold_out, frames of train/ (the dance) that the training
does not see, so that val/ is left for the final figure. The newest weights are scored, never the epoch that validated best.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.openmp  # noqa: F401  (must precede torch)

# isort: split
import argparse
import itertools
import json
import shutil
import time

import torch
from torch import Tensor
from torch.nn import functional

import Trainer
from benchmarks.common.measure import forcing_ratios, markdown
from data.clips import Sequence
from data.images import find_dataset, numbered_images
from evaluation.rollout import rollout_sequences
from evaluation.scores import CLOSING_FRAMES, HIGHEST_PSNR, score, summary
from evaluation.validation import SIDE_BY_SIDE
from runtime.cli import COUNT, INDEX, POSITIVE, Parser
from runtime.devices import find_device, find_precision
from runtime.files import check_writable
from tasks import TASKS
from training.checkpoints import load_checkpoint, model_from_checkpoint
from training.flags import parse_trainer_flags
from training.metrics_log import read_metrics
from utils import UserError, one_line_errors, seed_for

OPENING_FRAMES = 100
MARK = ".made-by-hold-out"  # in the folder of a split, which may be removed again
INK = 0.15  # a pixel of a pose image belongs to the skeleton if a channel differs so much from the picture's usual colour


def near_skeleton(poses: Tensor) -> Tensor:
    """Where the dancer is: (T, 3, H, W) pose images in [0, 1] -> (T, 1, H, W), 1 within H / 16 pixels of the skeleton."""
    usual = poses.flatten(2).median(dim=2).values[:, :, None, None]  # (T, 3, 1, 1)
    ink = ((poses - usual).abs().amax(dim=1, keepdim=True) > INK).float()  # (T, 1, H, W)
    reach = max(1, poses.shape[-2] // 16)
    return functional.max_pool2d(ink, 2 * reach + 1, stride=1, padding=reach)


def foreground_psnr(video: Tensor, sequence: Sequence) -> float:
    """Mean PSNR of the predicted frames' pixels near the skeleton, in dB; frames without a skeleton do not count.

    video (T, 3, H, W) in [0, 1]. nan for conditions that are no pictures.
    """
    begin = len(sequence.context_frames)
    if sequence.conditions.dim() != 4:
        return float("nan")
    mask = near_skeleton(sequence.conditions[begin:] / 255)
    seen = mask.flatten(1).any(dim=1)
    error = (video[begin:] - sequence.ground_truth[begin:] / 255).square().mean(dim=1, keepdim=True)
    mse = (error * mask).sum(dim=(1, 2, 3))[seen] / mask.sum(dim=(1, 2, 3))[seen]
    return (-10 * torch.log10(mse)).clamp(max=HIGHEST_PSNR).mean().item()


def hold_out(root: Path, frames: range, folder: Path) -> Path:
    """A data set in `folder` whose val/ are those frames of train/ in `root`, and whose train/ are the others.

    The pictures are linked where the system lets us, else copied. Raises UserError, also for a folder made by something else.
    """
    train, moved = find_dataset(root, "train") / "train", 0
    if (folder.exists() and not (folder / MARK).exists()) or root.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{folder}: stands where the split of --hold_out would go; choose another --save_root")
    for split in ("train", "val"):
        shutil.rmtree(folder / split, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    (folder / MARK).touch()
    for kind in ("img", "label"):
        for number, path in numbered_images(train / f"train_{kind}").items():
            split = "val" if number in frames else "train"
            moved += split == "val"
            target = folder / split / f"{split}_{kind}" / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                target.symlink_to(path.resolve())
            except OSError:  # Windows, without the right to make links
                shutil.copy(path, target)
    if not moved:
        raise UserError(f"--hold_out {frames.start}-{frames.stop - 1}: {train} has none of these frames")
    return folder


def frame_range(text: str) -> range:
    """An argparse type: 2520-3149."""
    first, dash, last = text.partition("-")
    if not (dash and first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise argparse.ArgumentTypeError(f"{text!r} found, first and last frame number expected, as 2520-3149")
    return range(int(first), int(last) + 1)


def epochs_in(minutes: float, argv: list[str], folder: Path) -> int:
    """How many epochs of Trainer.py with these flags take so long on this machine: one is timed on true, one on own frames."""
    seconds = {}
    for ratio in ("1", "0"):
        constant = ["--num_epoch", "1", "--tfr", ratio, "--tfr_sde", "1", "--fast_train_epoch", "0"]
        Trainer.main([*argv, "--save_root", str(folder), "--overwrite", *constant])
        seconds[ratio] = training_seconds(folder)
    for epochs in itertools.count(2):
        args, _ = parse_trainer_flags([*argv, "--save_root", str(folder), "--num_epoch", str(epochs)])
        ratios = forcing_ratios(args)
        if sum(ratio * seconds["1"] + (1 - ratio) * seconds["0"] for ratio in ratios) > 60 * minutes:
            return epochs - 1


def training_seconds(folder: Path) -> float:
    """Seconds that the training of a run took, without validation and plots."""
    return sum(row["seconds"] for row in read_metrics(folder / "timings.jsonl"))


def run_and_score(argv: list[str], folder: Path, seed: int) -> dict[str, float]:
    """Trains into `folder` and rolls out its newest averaged weights from prior samples: a row of the table."""
    begin = time.perf_counter()
    Trainer.main([*argv, "--save_root", str(folder), "--seed", str(seed), "--overwrite"])
    wall = time.perf_counter() - begin
    args, _ = parse_trainer_flags([*argv, "--save_root", str(folder)])
    task, device = TASKS[args.model], find_device(args.device)
    precision = find_precision(args.amp, device)
    path = folder / "last.ckpt"
    model = model_from_checkpoint(load_checkpoint(path), path).to(device)
    sequences = task.sequences(args, task.validation)
    seeds = [seed_for(seed, "test", sequence.name) for sequence in sequences]
    videos = rollout_sequences(model, sequences, seeds, device=device, precision=precision, z_scale=1.0,
                      batch_size=SIDE_BY_SIDE)  # fmt: skip
    scores = [score(video, sequence) for video, sequence in zip(videos, sequences)]
    means = summary(scores)
    foreground = [foreground_psnr(video, sequence) for video, sequence in zip(videos, sequences)]
    return {
        "seed": seed, "PSNR": means["psnr"], "first 100": torch.cat([s.psnr[:OPENING_FRAMES] for s in scores]).mean().item(),
        "last 100": means["closing"], "near skeleton": sum(foreground) / len(foreground), "SSIM": means["ssim"],
        "SSIM first 100": torch.cat([s.ssim[:OPENING_FRAMES] for s in scores]).mean().item(),
        "SSIM last 100": torch.cat([s.ssim[-CLOSING_FRAMES:] for s in scores]).mean().item(),
        "copy": means["copy"], "background": means["background"], "training min": training_seconds(folder) / 60,
        "wall min": wall / 60,
    }  # fmt: skip


def print_table(rows: list[dict[str, float]]) -> None:
    """Markdown: a row per seed, of several seeds also the mean and half the range."""
    lines = [[shown(name, value) for name, value in row.items()] for row in rows]
    if len(rows) > 1:
        columns = {name: [row[name] for row in rows] for name in rows[0] if name != "seed"}
        means = [f"{shown(name, sum(v) / len(v))} ± {shown(name, (max(v) - min(v)) / 2)}" for name, v in columns.items()]
        lines.append(["mean", *means])
    print(markdown(list(rows[0]), lines))


def shown(column: str, value: float) -> str:
    """A number of the table: dB with two digits, SSIM with four, minutes with one."""
    digits = 4 if "SSIM" in column else {"seed": 0, "training min": 1, "wall min": 1}.get(column, 2)
    return f"{value:.{digits}f}"


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Train with a budget and print what the roll-outs score.")
    add = parser.add_argument
    add("--DR", type=Path, required=True, help="data set")
    add("--save_root", type=Path, required=True, help="folder of the runs, the table and the split that --hold_out makes")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=POSITIVE, help="training time of a run on this machine, which sets the epochs")
    budget.add_argument("--epochs", type=COUNT, help="epochs of a run (default: those of the recipe)")
    add("--seeds", type=INDEX, nargs="+", default=[1], help="one run for each")
    add("--hold_out", type=frame_range, metavar="A-B", help="frames of train/ to leave out and roll out in place of val/")
    add("trainer_flags", nargs="*", help="behind --: flags of Trainer.py")
    args = parser.parse_args(argv)
    check_writable(args.save_root, flag="--save_root")
    root = hold_out(args.DR, args.hold_out, args.save_root / "held_out") if args.hold_out else args.DR
    flags = ["--DR", str(root), *args.trainer_flags]
    if args.minutes:
        flags += ["--num_epoch", str(epochs_in(args.minutes, flags, args.save_root / "pace"))]
    elif args.epochs:
        flags += ["--num_epoch", str(args.epochs)]
    rows = [run_and_score(flags, args.save_root / f"seed{seed}", seed) for seed in args.seeds]
    (args.save_root / "quality.json").write_text(json.dumps({"flags": flags, "rows": rows}, indent=2) + "\n")
    print("Trainer.py", *flags[2:])
    print_table(rows)


if __name__ == "__main__":
    main()
