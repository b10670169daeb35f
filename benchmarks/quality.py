"""Measure the quality that a training budget reaches: train with the given flags and seeds, roll out, and print the scores.

    python benchmarks/quality.py --DR lab4_real --save_root runs/quality --minutes 5 --seeds 1 2
    python benchmarks/quality.py --DR lab4_real --save_root runs/search --epochs 20 --hold_out 2520-3149 -- --flip 0.5

Everything after -- is passed to Trainer.py. To compare settings, score frames of train/ that training does not see (--hold_out,
for the dance only), and keep val/ for the final score. The last EMA weights are scored, not those of the best epoch.

T frames of a sequence.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.startup  # noqa: F401  (must precede torch)

# isort: split
import argparse
import json
import shutil
import time

import torch
from torch import Tensor
from torch.nn import functional

import Trainer
from benchmarks.common.cluster import recipe_mean
from benchmarks.common.measure import forcing_ratios
from benchmarks.common.tables import markdown_table
from data.clips import Sequence
from data.images import find_dataset, numbered_images
from evaluation.rollout import rollout_sequences
from evaluation.scores import CLOSING_FRAMES, HIGHEST_PSNR, score, summary
from evaluation.validation import SIDE_BY_SIDE
from runtime.cli import COUNT, INDEX, POSITIVE, Parser
from runtime.devices import find_device, find_precision
from runtime.files import check_writable
from runtime.program import one_line_errors
from tasks import TASKS
from training.checkpoints import load_checkpoint, model_from_checkpoint
from training.flags import parse_trainer_flags
from training.metrics_log import read_metrics
from utils import UserError, seed_for

FIRST_FRAMES = 100
MARKER = ".made-by-hold-out"  # a file in folders that hold_out() has made and may replace
SKELETON_CONTRAST = 0.15  # a pixel belongs to the skeleton if a channel differs by more than this from the background
# Headings of the table by the keys of quality.json. Any other key is its own heading.
HEADINGS = {
    "PSNR": "PSNR, dB",
    "first 100": "first 100 frames, dB",
    "last 100": "last 100 frames, dB",
    "near skeleton": "foreground PSNR, dB",
    "SSIM first 100": "SSIM, first 100",
    "SSIM last 100": "SSIM, last 100",
    "copy": "copy-last-frame baseline, dB",
    "background": "median-frame baseline (oracle), dB",
    "training min": "training, min",
    "wall min": "wall time, min",
}
DIGITS = {"seed": 0, "training min": 1, "wall min": 1, "SSIM": 4, "SSIM first 100": 4, "SSIM last 100": 4}  # others: 2


def skeleton_neighborhood(poses: Tensor) -> Tensor:
    """Return 1 within H / 16 pixels of the skeleton, else 0: pose images (T, 3, H, W) in [0, 1] -> (T, 1, H, W)."""
    background = poses.flatten(2).median(dim=2).values[:, :, None, None]  # (T, 3, 1, 1)
    skeleton = ((poses - background).abs().amax(dim=1, keepdim=True) > SKELETON_CONTRAST).float()  # (T, 1, H, W)
    radius = max(1, poses.shape[-2] // 16)
    return functional.max_pool2d(skeleton, 2 * radius + 1, stride=1, padding=radius)


def foreground_psnr(video: Tensor, sequence: Sequence) -> float:
    """Return the mean PSNR in dB of the pixels near the skeleton, over the predicted frames that show a skeleton.

    video (T, 3, H, W) in [0, 1]. NaN if the conditions are not images.
    """
    begin = len(sequence.context_frames)
    if sequence.conditions.dim() != 4:
        return float("nan")
    assert sequence.ground_truth is not None
    mask = skeleton_neighborhood(sequence.conditions[begin:] / 255)
    has_skeleton = mask.flatten(1).any(dim=1)
    error = (video[begin:] - sequence.ground_truth[begin:] / 255).square().mean(dim=1, keepdim=True)
    mse = (error * mask).sum(dim=(1, 2, 3))[has_skeleton] / mask.sum(dim=(1, 2, 3))[has_skeleton]
    return (-10 * torch.log10(mse)).clamp(max=HIGHEST_PSNR).mean().item()


def hold_out(root: Path, frames: range, folder: Path) -> Path:
    """Make a data set in `folder` from train/ of `root`: its val/ has these frames, its train/ the others. Return `folder`.

    Images are symbolic links where the system allows them, else copies. Raises UserError if train/ has none of the frames, or
    if this function did not make `folder`.
    """
    train = find_dataset(root, "train") / "train"
    foreign = folder.exists() and not (folder / MARKER).exists()
    if foreign or root.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{folder}: expected no folder, or one made by --hold_out; choose another --save_root")
    for split in ("train", "val"):
        shutil.rmtree(folder / split, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    (folder / MARKER).touch()
    held_out = 0
    for kind in ("img", "label"):
        for number, path in numbered_images(train / f"train_{kind}").items():
            split = "val" if number in frames else "train"
            held_out += number in frames
            link_or_copy(path, folder / split / f"{split}_{kind}" / path.name)
    if not held_out:
        raise UserError(f"--hold_out {frames.start}-{frames.stop - 1}: expected frame numbers of {train}, got none that exist")
    return folder


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a symbolic link to `source`, or a copy where links are not allowed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.symlink_to(source.resolve())
    except OSError:  # Windows, without the right to make links
        shutil.copy(source, target)


def frame_range(text: str) -> range:
    """Parse a range of frames such as 2520-3149; an argparse type."""
    first, dash, last = text.partition("-")
    if not (dash and first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise argparse.ArgumentTypeError(f"expected the first and the last frame number, such as 2520-3149, got {text!r}")
    return range(int(first), int(last) + 1)


def epochs_within(minutes: float, argv: list[str], folder: Path) -> int:
    """Return the number of epochs that this machine trains in `minutes` with these flags; at least 1.

    One teacher-forced and one autoregressive epoch are timed.
    """
    seconds = {}
    for ratio in ("1", "0"):
        constant = ["--num_epoch", "1", "--tfr", ratio, "--tfr_sde", "1", "--fast_train_epoch", "0"]
        Trainer.main([*argv, "--save_root", str(folder), "--overwrite", *constant])
        seconds[ratio] = training_seconds(folder)
    epochs = 1
    while recipe_seconds(epochs + 1, argv, folder, seconds["1"], seconds["0"]) <= 60 * minutes:
        epochs += 1
    return epochs


def recipe_seconds(epochs: int, argv: list[str], folder: Path, forced: float, autoregressive: float) -> float:
    """Return the seconds of `epochs` epochs, given those of a teacher-forced and of an autoregressive epoch."""
    flags, _ = parse_trainer_flags([*argv, "--save_root", str(folder), "--num_epoch", str(epochs)])
    return sum(recipe_mean(ratio, forced, autoregressive) for ratio in forcing_ratios(flags))


def training_seconds(folder: Path) -> float:
    """Return the seconds that the training of a run took, without validation and plots."""
    return sum(row["seconds"] for row in read_metrics(folder / "timings.jsonl"))


def train_and_score(argv: list[str], folder: Path, seed: int) -> dict[str, float]:
    """Train a run in `folder`, roll out its last EMA weights from prior samples, and return its row of quality.json."""
    begin = time.perf_counter()
    Trainer.main([*argv, "--save_root", str(folder), "--seed", str(seed), "--overwrite"])
    wall = time.perf_counter() - begin
    flags, _ = parse_trainer_flags([*argv, "--save_root", str(folder)])
    task, device = TASKS[flags.model], find_device(flags.device)
    path = folder / "last.ckpt"
    model = model_from_checkpoint(load_checkpoint(path), path).to(device)
    sequences = task.sequences(flags, task.validation)
    seeds = [seed_for(seed, "test", sequence.name) for sequence in sequences]
    videos = rollout_sequences(
        model, sequences, seeds, device=device, precision=find_precision(flags.amp, device), z_scale=1.0,
        batch_size=SIDE_BY_SIDE,
    )  # fmt: skip
    minutes = {"training min": training_seconds(folder) / 60, "wall min": wall / 60}
    return {"seed": seed} | mean_scores(videos, sequences) | minutes


def mean_scores(videos: list[Tensor], sequences: list[Sequence]) -> dict[str, float]:
    """Return the scores of the rollouts, averaged over all frames (foreground PSNR: over the sequences)."""
    scores = [score(video, sequence) for video, sequence in zip(videos, sequences)]
    foreground = [foreground_psnr(video, sequence) for video, sequence in zip(videos, sequences)]
    means = summary(scores)
    return {
        "PSNR": means["psnr"],
        "first 100": torch.cat([s.psnr[:FIRST_FRAMES] for s in scores]).mean().item(),
        "last 100": means["closing"],
        "near skeleton": sum(foreground) / len(foreground),
        "SSIM": means["ssim"],
        "SSIM first 100": torch.cat([s.ssim[:FIRST_FRAMES] for s in scores]).mean().item(),
        "SSIM last 100": torch.cat([s.ssim[-CLOSING_FRAMES:] for s in scores]).mean().item(),
        "copy": means["copy"],
        "background": means["background"],
    }


def score_table(rows: list[dict[str, float]]) -> str:
    """Return a Markdown table with a row per seed and, for several seeds, the mean and half the range of each column."""
    keys = list(rows[0])
    lines = [[format_score(key, row[key]) for key in keys] for row in rows]
    if len(rows) > 1:
        means = ["mean"]
        for key in keys[1:]:  # the first is the seed
            values = [row[key] for row in rows]
            mean, half_range = sum(values) / len(values), (max(values) - min(values)) / 2
            means.append(f"{format_score(key, mean)} ± {format_score(key, half_range)}")
        lines.append(means)
    return markdown_table([HEADINGS.get(key, key) for key in keys], lines)


def format_score(key: str, value: float) -> str:
    """Return the value of a column with its number of digits."""
    return f"{value:.{DIGITS.get(key, 2)}f}"


def quality_parser() -> Parser:
    """Return the parser of this program's flags."""
    parser = Parser("Train with a fixed budget and print the scores of the rollouts as a Markdown table.")
    add = parser.add_argument
    add("--DR", "--data_root", type=Path, required=True, metavar="FOLDER", help="data set, as for Trainer.py")
    add(
        "--save_root",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder for the runs, quality.json and the split of --hold_out",
    )
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        "--minutes", type=POSITIVE, help="training time of a run in minutes on this machine; determines the epochs"
    )
    budget.add_argument("--epochs", type=COUNT, help="epochs of a run (default: those of the recipe)")
    add("--seeds", type=INDEX, nargs="+", default=[1], help="seeds of the runs, one run each")
    add(
        "--hold_out",
        type=frame_range,
        metavar="A-B",
        help="frames of train/ that are scored instead of val/, and not used for training",
    )
    add("trainer_flags", nargs="*", metavar="-- FLAG", help="flags of Trainer.py")
    return parser


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = quality_parser().parse_args(argv)
    check_writable(args.save_root, flag="--save_root")
    root = hold_out(args.DR, args.hold_out, args.save_root / "held_out") if args.hold_out else args.DR
    flags = ["--DR", str(root), *args.trainer_flags]
    if args.minutes:
        flags += ["--num_epoch", str(epochs_within(args.minutes, flags, args.save_root / "pace"))]
    elif args.epochs:
        flags += ["--num_epoch", str(args.epochs)]
    rows = [train_and_score(flags, args.save_root / f"seed{seed}", seed) for seed in args.seeds]
    (args.save_root / "quality.json").write_text(json.dumps({"flags": flags, "rows": rows}, indent=2) + "\n")
    print("Trainer.py", *flags[2:])
    print(score_table(rows))


if __name__ == "__main__":
    main()
