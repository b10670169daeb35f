"""Rolls out every test sequence of a data set with a trained model.

    python Tester.py --DR LAB4_Dataset --ckpt_path runs/first --save_root results

Writes GIFs, strips, submission.csv and, where the truth is known, scores and curves. The model comes from the checkpoint.
"""
import argparse
import csv
import json
from pathlib import Path

import torch

from checkpoints import find_checkpoint, load_checkpoint, model_from_checkpoint
from dataloader import Sequence, find_dataset, load_test_sequences
from evaluation import Score, roll_out, score, summary
from flags import COUNT, INDEX, NOT_NEGATIVE, Parser, add_device_flags, number
from pictures import comparison, save_gif, save_strip
from plots import draw_psnr_per_frame
from records import finite
from submission import course_score, find_truth, write_submission
from utils import check_writable, find_device, one_line_errors, seed_for, video_to_bytes


def tester_parser() -> Parser:
    """All flags of Tester.py."""
    parser = Parser("Roll out the test sequences with a trained model; write GIFs, submission.csv and scores.")
    add = parser.add_argument_group("run").add_argument
    add("--DR", type=Path, required=True, metavar="FOLDER", help="data set in the LAB4_Dataset layout")
    add("--save_root", type=Path, required=True, metavar="FOLDER", help="where the results go")
    add("--ckpt_path", type=Path, required=True, help="checkpoint, or run folder (its best.ckpt)")
    add("--gt", type=Path, help="csv with the true frames (default: test/test_gt/ or Demo_Test/GT{i}.csv where they exist)")
    add = add_device_flags(parser)
    add("--batch_size", type=COUNT, default=8, help="sequences rolled out side by side")
    add = parser.add_argument_group("sampling").add_argument
    add("--z_scale", type=NOT_NEGATIVE, default=1.0, help="z is a prior sample times this; 0 takes the prior's mean")
    add("--seed", type=INDEX, default=1, help="seed of the prior samples")
    add = parser.add_argument_group("pictures").add_argument
    add("--fps", type=number(float, 1, 50), default=20.0, help="frames per second of the GIFs")
    add("--strip_every", type=COUNT, default=60, help="frames between two pictures of a strip")
    return parser


def load_sequences(args: argparse.Namespace, flags: dict) -> list[Sequence]:
    """The test sequences at the size the model was trained for, with all truth that can be found. Raises UserError."""
    size = {"height": flags["frame_H"], "width": flags["frame_W"]}
    sequences = load_test_sequences(args.DR, **size, cache_dir=args.cache_dir)
    lengths = {sequence.name: len(sequence.conditions) for sequence in sequences}
    truth = find_truth(find_dataset(args.DR, "test"), args.gt, lengths, **size)
    return [sequence._replace(truth=truth.get(sequence.name, sequence.truth)) for sequence in sequences]


def write_pictures(folder: Path, videos: list[torch.Tensor], sequences: list[Sequence], *, fps: float, every: int) -> None:
    """Per sequence: the prediction as the course wants it, the comparison and the strip."""
    for video, sequence in zip(videos, sequences):
        save_gif(folder / f"pred_seq{sequence.name}.gif", video, fps=fps)
        save_gif(folder / f"compare_seq{sequence.name}.gif", comparison(video, sequence), fps=fps)
        save_strip(folder / f"strip_seq{sequence.name}.png", video, sequence, every=every)


def write_scores(folder: Path, videos: list[torch.Tensor], sequences: list[Sequence]) -> None:
    """Prints and saves the scores of all sequences whose truth is known: scores.csv, scores.json and one plot each."""
    known = [(video, sequence) for video, sequence in zip(videos, sequences) if sequence.truth is not None]
    scores = {sequence.name: score(video, sequence) for video, sequence in known}
    rows = [{"sequence": name, "frames": len(result.psnr)} | summary([result]) for name, result in scores.items()]
    rows.append({"sequence": "all", "frames": sum(row["frames"] for row in rows)} | summary(list(scores.values())))
    with open(folder / "scores.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=rows[0])
        writer.writeheader()
        writer.writerows(rows)
    print(f"{'sequence':>8} {'frames':>6} {'PSNR':>6} {'SSIM':>6} {'last 100':>8} {'copy first':>10} {'median background':>17}")
    for row in rows:
        print(f"{row['sequence']:>8} {row['frames']:>6} {row['psnr']:>6.2f} {row['ssim']:>6.3f} {row['closing']:>8.2f} "
              f"{row['copy_first']:>10.2f} {row['background']:>17.2f}")  # fmt: skip
    truth = [None if sequence.truth is None else sequence.truth.numpy() for sequence in sequences]
    course = course_score([video_to_bytes(video) for video in videos], truth)
    parts = f"all {course.overall:.2f} dB, public {course.public:.2f}, private {course.private:.2f}"
    print(f"course's score (frames 1 to 600): {parts}")
    per_frame = {name: {key: value.tolist() for key, value in result._asdict().items()} for name, result in scores.items()}
    everything = finite({"sequences": rows, "course": course._asdict(), "per_frame": per_frame})
    (folder / "scores.json").write_text(json.dumps(everything) + "\n")
    for name, result in scores.items():
        plot_score(folder / f"psnr_seq{name}.png", name, result)


def plot_score(path: Path, name: str, result: Score) -> None:
    """PSNR per frame of one sequence beside the two pictures that any model must beat."""
    curves = {"prediction": result.psnr, "copy of the first frame": result.copy_first, "median background": result.background}
    draw_psnr_per_frame({key: value.numpy() for key, value in curves.items()}, path, title=f"Test sequence {name}")


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = tester_parser().parse_args(argv)
    device = find_device(args.device)
    check_writable(args.save_root, flag="--save_root")
    path = find_checkpoint(args.ckpt_path, prefer="best")
    state = load_checkpoint(path)
    model = model_from_checkpoint(state, path).to(device)
    sequences = load_sequences(args, state["flags"])
    frames = sum(len(sequence.conditions) for sequence in sequences)
    print(f"{path}: epoch {state['epoch']}; {len(sequences)} sequences, {frames} frames on {device}")
    for old in [*args.save_root.glob("scores.*"), *args.save_root.glob("psnr_seq*.png")]:
        old.unlink()  # scores of another run must not stand beside these videos
    torch.manual_seed(seed_for(args.seed, "test"))
    videos = roll_out(model, sequences, device=device, precision=args.amp, z_scale=args.z_scale, batch_size=args.batch_size)
    write_submission(args.save_root / "submission.csv", [video_to_bytes(video) for video in videos])
    write_pictures(args.save_root, videos, sequences, fps=args.fps, every=args.strip_every)
    if any(sequence.truth is not None for sequence in sequences):
        write_scores(args.save_root, videos, sequences)
    else:
        print("no truth found (test/test_gt/, --gt or Demo_Test/GT{i}.csv), so nothing is scored")
    print(f"results are in {args.save_root}")


if __name__ == "__main__":
    main()
