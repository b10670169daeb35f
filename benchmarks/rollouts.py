"""What the prior's samples change, and whether a roll-out lasts: scores of one trained model.

    python benchmarks/rollouts.py --DR lab4_real --ckpt_path runs/real --split val
    python benchmarks/rollouts.py --DR demo_data --ckpt_path runs/demo --samples 20 --frames 5000

Prior: PSNR with z at the prior's mean, of samples, of the best of them (chosen by the truth), and how far they lie apart, in
grey levels of 255. Lasting: the conditions of a sequence are repeated until --frames, and the first round through them is
scored beside the last whole one.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.openmp  # noqa: F401  (must precede torch)

# isort: split
import argparse

import torch

from benchmarks.common.measure import markdown
from data.clips import Sequence
from evaluation.rollout import rollout_sequences
from evaluation.scores import score
from runtime.cli import INDEX, Parser, add_device_flags, number
from runtime.devices import compile_parts, find_device, find_precision
from tasks import TASKS
from Tester import merge_flags
from training.checkpoints import find_checkpoint, load_checkpoint, model_from_checkpoint
from utils import UserError, one_line_errors, seed_for


def prior_row(name: str, samples: list[torch.Tensor], mean: torch.Tensor, sequence: Sequence) -> list[str]:
    """A line of the table: roll-outs of z samples (T, 3, H, W) each, and that of the prior's mean, against the truth."""
    first = score(mean, sequence)
    psnr = torch.tensor([score(video, sequence, baselines=first).psnr.mean() for video in samples])
    apart = 255 * torch.stack(samples)[:, len(sequence.context_frames) :].std(dim=0).mean()
    values = [first.psnr.mean(), psnr.mean(), psnr.max(), psnr.std(), apart]
    return [name, *(f"{value:.2f}" for value in values[:3]), *(f"{value:.3f}" for value in values[3:])]


def repeated(sequence: Sequence, frames: int) -> Sequence:
    """The sequence with its conditions over and over, `frames` in all; the truth is left out."""
    rounds = -(-frames // len(sequence.conditions))
    conditions = torch.cat([sequence.conditions] * rounds)[:frames]
    return sequence._replace(conditions=conditions, ground_truth=None)


def lasting_row(video: torch.Tensor, sequence: Sequence) -> list[str]:
    """First and last whole round of a roll-out (frames, 3, H, W) through the conditions of the sequence."""
    length = len(sequence.conditions)
    rounds = len(video) // length
    first, last = (score(video[start : start + length], sequence).psnr.mean() for start in (0, (rounds - 1) * length))
    finite = "yes" if torch.isfinite(video).all() else "no"
    return [sequence.name, str(len(video)), f"{first:.2f}", f"{last:.2f}", f"{last - first:+.2f}", finite]


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Score samples of the prior and a very long roll-out of a trained model.")
    add = parser.add_argument
    add("--DR", type=Path, required=True, help="data set")
    add("--ckpt_path", type=Path, required=True, help="checkpoint, or run folder (its last.ckpt)")
    add("--split", default="test", help="folder of the data set to roll out")
    add("--samples", type=number(int, 2), default=20, help="samples of each sequence")
    add("--frames", type=INDEX, default=5000, help="frames of the long roll-out, at least two rounds of a sequence; 0: none")
    add("--seed", type=INDEX, default=1, help="seed of the samples")
    add_device_flags(parser)
    parser.set_defaults(amp=None)  # the task's
    args = parser.parse_args(argv)
    device = find_device(args.device)
    path = find_checkpoint(args.ckpt_path, prefer="last")
    state = load_checkpoint(path)
    model = model_from_checkpoint(state, path).to(device)
    task = TASKS[state["model_config"]["family"]]
    flags = merge_flags(argparse.Namespace(**vars(args), gt=None, windows=None, val_vi_len=None), state["flags"], task)
    sequences = [sequence for sequence in task.sequences(flags, args.split) if sequence.ground_truth is not None]
    if not sequences:
        raise UserError(f"{args.DR}, {args.split}: the truth of no sequence is known; expected test_gt/ or another --split")
    try:
        model.check_conditions(sequences[0].conditions)
    except ValueError as error:
        raise UserError(f"{args.DR}, {args.split}: {error}") from None
    if short := [s.name for s in sequences if 0 < args.frames < 2 * len(s.conditions)]:
        raise UserError(f"--frames {args.frames}: expected two rounds through sequence {short[0]} at least, or 0")
    if args.compile:
        compile_parts(model, device)
    common = {"device": device, "precision": find_precision(flags.amp, device), "batch_size": 8}
    prior, lasting = [], []
    for sequence in sequences:
        seeds = [seed_for(args.seed, "test", sequence.name, n) for n in range(args.samples)]
        (mean,) = rollout_sequences(model, [sequence], seeds[:1], z_scale=0.0, **common)
        samples = rollout_sequences(model, [sequence] * args.samples, seeds, z_scale=1.0, **common)
        prior.append(prior_row(sequence.name, samples, mean, sequence))
        if args.frames:
            (video,) = rollout_sequences(model, [repeated(sequence, args.frames)], seeds[:1], z_scale=1.0, **common)
            lasting.append(lasting_row(video, sequence))
    header = ["sequence", "z_scale 0, dB", "z_scale 1", f"best of {args.samples}", "deviation, dB", "apart, grey levels"]
    print(markdown(header, prior))
    if lasting:
        print("\n" + markdown(["sequence", "frames", "first round, dB", "last whole round", "difference", "finite"], lasting))


if __name__ == "__main__":
    main()
