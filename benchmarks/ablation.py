"""What each input is worth: trains with one input of the decoder taken away and scores the roll-outs.

    python benchmarks/ablation.py --DR demo_data --save_root runs/ablation -- --num_epoch 30 --val_every 5

Everything behind -- goes to Trainer.py.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.openmp  # noqa: F401  (must precede torch)

# isort: split
import csv

import torch
from torch import Tensor

import modules
import Tester
import Trainer
from modules.pose_cvae import PoseCVAE, Prepared
from runtime.cli import Parser
from utils import one_line_errors

INPUTS = ["nothing", "pose", "previous frame", "reference", "z"]


class Blinded(PoseCVAE):
    """PoseCVAE whose decoder sees zeros in place of one input: "pose", "previous frame", "reference" or "z"."""

    without = "nothing"

    def know(self, reference: Tensor) -> Prepared:
        known = super().know(reference)
        return known.each(torch.zeros_like) if self.without == "reference" else known

    def prepare(self, label: list[Tensor], known: Prepared, z: Tensor) -> Prepared:
        if self.without == "pose":
            label = [torch.zeros_like(level) for level in label]
        return super().prepare(label, known, torch.zeros_like(z) if self.without == "z" else z)

    def predict(self, previous: Tensor, prepared: Prepared, reference: Tensor) -> Tensor:
        if self.without == "previous frame":
            previous = torch.zeros_like(previous)
        return super().predict(previous, prepared, torch.zeros_like(reference) if self.without == "reference" else reference)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Train and test with each input of the decoder taken away in turn.")
    parser.add_argument("--DR", required=True, help="data set with test truth")
    parser.add_argument("--save_root", type=Path, required=True, help="folder of the runs and their results")
    parser.add_argument("--without", nargs="+", choices=INPUTS, default=INPUTS, help="inputs to take away, one run each")
    parser.add_argument("trainer_flags", nargs="*", help="behind --: flags of Trainer.py")
    args = parser.parse_args(argv)
    modules.TASKS["pose_cvae"] = Blinded
    rows = []
    for Blinded.without in args.without:
        run = args.save_root / Blinded.without.replace(" ", "_")
        Trainer.main(["--DR", args.DR, "--save_root", str(run), "--resume", *args.trainer_flags])
        Tester.main(["--DR", args.DR, "--ckpt_path", str(run), "--save_root", str(run / "test")])
        with open(run / "test" / "scores.csv", newline="") as file:
            rows.append((Blinded.without, list(csv.DictReader(file))[-1]))
    print("| without | PSNR, dB | SSIM |\n|---|---|---|")
    for without, score in rows:
        print(f"| {without} | {float(score['psnr']):.2f} | {float(score['ssim']):.3f} |")


if __name__ == "__main__":
    main()
