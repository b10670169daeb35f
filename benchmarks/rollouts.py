"""Score the prior's samples and a very long rollout of one trained model.

    python benchmarks/rollouts.py --DR lab4_real --ckpt_path runs/real --split val
    python benchmarks/rollouts.py --DR demo_data --ckpt_path runs/demo --samples 20 --frames 5000

The first table is about the prior. It has the PSNR of the rollout from the prior's mean, the mean PSNR of rollouts from samples,
and that of the best of these. It also has the standard deviation over the samples, of the PSNR in dB and of the pixels in gray
levels (0 to 255). The second table is about duration: the conditions of a sequence are repeated up to --frames, and the scores
of the first pass through them are compared with those of the last complete one.

T frames of a sequence.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.startup  # noqa: F401  (must precede torch)

# isort: split
import argparse
import math
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.common.tables import markdown_table
from data.clips import Sequence
from evaluation.rollout import rollout_sequences
from evaluation.scores import score
from modules.base import VideoModel
from runtime.cli import INDEX, Parser, add_device_flags, number
from runtime.devices import compile_parts, find_device, find_precision
from runtime.program import one_line_errors
from tasks import task_of
from Tester import merge_flags
from training.checkpoints import find_checkpoint, load_checkpoint, model_from_checkpoint
from utils import UserError, seed_for

BATCH_SIZE = 8  # sequences or samples that are rolled out together


class TrainedModel(NamedTuple):
    """A model and how to run it."""

    model: VideoModel
    device: torch.device
    precision: str

    def rollout(self, sequences: list[Sequence], seeds: list[int], *, z_scale: float) -> list[Tensor]:
        """Return the rollout (T, 3, H, W) of each sequence."""
        return rollout_sequences(self.model, sequences, seeds, device=self.device, precision=self.precision, z_scale=z_scale,
                                 batch_size=BATCH_SIZE)  # fmt: skip


def prior_row(name: str, samples: list[Tensor], mean: Tensor, sequence: Sequence) -> list[str]:
    """Return a line of the first table from rollouts (T, 3, H, W) of samples and of the prior's mean."""
    mean_score = score(mean, sequence)
    psnr = torch.tensor([score(video, sequence, baselines=mean_score).psnr.mean() for video in samples])
    predicted = torch.stack(samples)[:, len(sequence.context_frames) :]
    deviation = 255 * predicted.std(dim=0).mean()
    decibels = [mean_score.psnr.mean(), psnr.mean(), psnr.max()]
    return [name, *(f"{value:.2f}" for value in decibels), f"{psnr.std():.3f}", f"{deviation:.3f}"]


def repeat_conditions(sequence: Sequence, frames: int) -> Sequence:
    """Return the sequence with its conditions repeated up to `frames`, without its ground truth."""
    passes = math.ceil(frames / len(sequence.conditions))
    conditions = torch.cat([sequence.conditions] * passes)[:frames]
    return sequence._replace(conditions=conditions, ground_truth=None)


def duration_row(video: Tensor, sequence: Sequence) -> list[str]:
    """Return a line of the second table from a rollout (frames, 3, H, W) through the repeated conditions."""
    length = len(sequence.conditions)
    last_start = (len(video) // length - 1) * length
    first = score(video[:length], sequence).psnr.mean()
    last = score(video[last_start : last_start + length], sequence).psnr.mean()
    finite = "yes" if torch.isfinite(video).all() else "no"
    return [sequence.name, str(len(video)), f"{first:.2f}", f"{last:.2f}", f"{last - first:+.2f}", finite]


def load_inputs(args: argparse.Namespace) -> tuple[TrainedModel, list[Sequence]]:
    """Load the model and the sequences with ground truth. Raises UserError if they do not fit together."""
    device = find_device(args.device)
    path = find_checkpoint(args.ckpt_path, prefer="last")
    state = load_checkpoint(path)
    model = model_from_checkpoint(state, path).to(device)
    task = task_of(state, path)
    flags = merge_flags(argparse.Namespace(**vars(args), gt=None, windows=None, val_vi_len=None), state["flags"], task)
    sequences = [sequence for sequence in task.sequences(flags, args.split) if sequence.ground_truth is not None]
    if not sequences:
        raise UserError(
            f"{args.DR}, {args.split}: expected sequences with ground truth, got none; add test_gt/ or choose --split"
        )
    try:
        model.check_conditions(sequences[0].conditions)
    except ValueError as error:
        raise UserError(f"{args.DR}, {args.split}: {error}") from None
    for sequence in sequences:
        least = 2 * len(sequence.conditions)
        if 0 < args.frames < least:
            raise UserError(
                f"--frames {args.frames}: expected at least {least}, twice the frames of sequence {sequence.name}, or 0"
            )
    if args.compile:
        compile_parts(model, device)
    return TrainedModel(model, device, find_precision(flags.amp, device)), sequences


def rollouts_parser() -> Parser:
    """Return the parser of this program's flags."""
    parser = Parser("Score samples of the prior and a very long rollout of a trained model and print Markdown tables.")
    add = parser.add_argument
    add("--DR", "--data_root", type=Path, required=True, metavar="FOLDER", help="data set, as for Trainer.py")
    add("--ckpt_path", type=Path, required=True, help="checkpoint, or run folder (its last.ckpt)")
    add("--split", default="test", help="folder of the data set with the sequences to roll out")
    add("--samples", type=number(int, 2), default=20, help="samples of the prior per sequence")
    add(
        "--frames", type=INDEX, default=5000, help="frames of the long rollout, at least twice those of a sequence; 0: no rollout"
    )
    add("--seed", type=INDEX, default=1, help="seed of the samples")
    add_device_flags(parser)
    parser.set_defaults(amp=None)  # the task's default
    return parser


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = rollouts_parser().parse_args(argv)
    trained, sequences = load_inputs(args)
    prior, duration = [], []
    for sequence in sequences:
        seeds = [seed_for(args.seed, "test", sequence.name, n) for n in range(args.samples)]
        (mean,) = trained.rollout([sequence], seeds[:1], z_scale=0.0)
        samples = trained.rollout([sequence] * args.samples, seeds, z_scale=1.0)
        prior.append(prior_row(sequence.name, samples, mean, sequence))
        if args.frames:
            (video,) = trained.rollout([repeat_conditions(sequence, args.frames)], seeds[:1], z_scale=1.0)
            duration.append(duration_row(video, sequence))
    header = ["sequence", "prior's mean (z_scale 0), dB", "samples (z_scale 1), dB", f"best of {args.samples}, dB",
              "deviation of samples, dB", "deviation of samples, gray levels"]  # fmt: skip
    print(markdown_table(header, prior))
    if duration:
        header = ["sequence", "frames", "first pass, dB", "last complete pass, dB", "difference, dB", "finite"]
        print("\n" + markdown_table(header, duration))


if __name__ == "__main__":
    main()
