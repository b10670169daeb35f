"""Measure how much each input of the decoder contributes: train with one of them set to zero and score the rollouts.

    python benchmarks/ablation.py --DR demo_data --save_root runs/ablation -- --num_epoch 30 --val_every 5

Everything after -- is passed to Trainer.py.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.startup  # noqa: F401  (must precede torch)

# isort: split
import csv
from unittest.mock import patch

import torch
from torch import Tensor

import Tester
import Trainer
from modules import MODEL_CLASSES
from modules.pose_cvae import DecoderInputs, PoseCVAE
from runtime.cli import Parser
from runtime.program import one_line_errors

INPUTS = ["nothing", "pose", "previous frame", "reference", "z"]


class Blinded(PoseCVAE):
    """PoseCVAE whose decoder gets zeros instead of the input `without`, one of INPUTS."""

    without = "nothing"

    def encode_reference(self, reference: Tensor) -> DecoderInputs:
        inputs = super().encode_reference(reference)
        return inputs.map(torch.zeros_like) if self.without == "reference" else inputs

    def decoder_inputs(self, label: list[Tensor], z: Tensor, from_reference: DecoderInputs) -> DecoderInputs:
        if self.without == "pose":
            label = [torch.zeros_like(level) for level in label]
        if self.without == "z":
            z = torch.zeros_like(z)
        return super().decoder_inputs(label, z, from_reference)

    def predict(self, previous: Tensor, inputs: DecoderInputs) -> Tensor:
        if self.without == "previous frame":
            previous = torch.zeros_like(previous)
        return super().predict(previous, inputs)


def train_and_test(without: str, data: str, run: Path, trainer_flags: list[str]) -> dict[str, str]:
    """Train and test a Blinded model in the folder `run` and return the last row of its scores.csv, the mean."""
    with patch.dict(MODEL_CLASSES, pose_cvae=Blinded), patch.object(Blinded, "without", without):
        Trainer.main(["--DR", data, "--save_root", str(run), "--resume", *trainer_flags])
        Tester.main(["--DR", data, "--ckpt_path", str(run), "--save_root", str(run / "test")])
    with open(run / "test" / "scores.csv", newline="") as file:
        return list(csv.DictReader(file))[-1]


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Train and test with each input of the decoder set to zero in turn.")
    parser.add_argument("--DR", required=True, help="data set with the ground truth of its test sequences")
    parser.add_argument("--save_root", type=Path, required=True, help="folder of the runs and their results")
    parser.add_argument("--without", nargs="+", choices=INPUTS, default=INPUTS, help="inputs to set to zero, one run each")
    parser.add_argument("trainer_flags", nargs="*", help="after --: flags of Trainer.py")
    args = parser.parse_args(argv)
    rows = []
    for without in args.without:
        score = train_and_test(without, args.DR, args.save_root / without.replace(" ", "_"), args.trainer_flags)
        rows.append(f"| {without} | {float(score['psnr']):.2f} | {float(score['ssim']):.3f} |")
    print("| without | PSNR, dB | SSIM |\n|---|---|---|", *rows, sep="\n")


if __name__ == "__main__":
    main()
