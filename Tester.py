"""Roll out every test sequence of a data set with a trained model.

    python Tester.py --DR LAB4_Dataset --ckpt_path runs/first

The results are GIFs, filmstrips, the dance's submission.csv and, with ground truth, scores and plots. The checkpoint determines
the model and the task.
"""

import runtime.startup  # noqa: F401  (must precede torch)

# isort: split
import argparse
from typing import Any

from data.clips import Sequence
from evaluation.results import remove_earlier, write_scores, write_visualizations
from evaluation.rollout import shuffle_conditions
from evaluation.scores import Result, run_tests
from modules.base import VideoModel
from runtime.cli import COUNT, INDEX, NOT_NEGATIVE, SEED, Parser, add_device_flags, location, number
from runtime.devices import compile_parts, find_device, find_precision, warn_without_cuda
from runtime.files import check_writable
from runtime.output import keep_lost_lines_in
from runtime.program import one_line_errors
from tasks import TASKS, Task, task_of
from training.checkpoints import find_checkpoint, load_checkpoint, model_from_checkpoint
from utils import UserError, counted
from visualization.video_kinds import VIDEOS, video_kinds

MAIN_FLAGS = ("DR", "ckpt_path", "save_root", "split", "only", "device", "n_sample", "pose_from", "first_frame", "show",
              "video", "fps")  # fmt: skip
EXAMPLES = """examples:
  python Tester.py --DR LAB4_Dataset --ckpt_path runs/first
  python Tester.py --DR processed_data --ckpt_path runs/robot --n_sample 100
"""


def tester_parser() -> Parser:
    """Return the parser of all flags of Tester.py."""
    parser = Parser("Roll out the test sequences with a trained model; write videos, scores and the dance's submission.csv.",
                    main=MAIN_FLAGS, epilog=EXAMPLES)  # fmt: skip
    add_run_flags(parser)
    add = add_device_flags(parser)
    add("--batch_size", type=COUNT, default=8, help="sequences or samples rolled out in one batch")
    parser.set_defaults(amp=None)  # the task's
    add_sampling_flags(parser)
    add_input_flags(parser)
    add_output_flags(parser)
    return parser


def add_run_flags(parser: Parser) -> None:
    """Add the flags that choose the checkpoint, the data and the folder of the results."""
    add = parser.add_argument_group("run").add_argument
    add("--DR", "--data_root", type=location, required=True, metavar="FOLDER", help="data set in the layout that was trained on")
    add("--ckpt_path", "--model_dir", type=location, required=True, metavar="PATH", help="checkpoint or run (its best.ckpt)")
    add("--save_root", "--log_dir", type=location, metavar="FOLDER",
        help="folder of the results (default: test/ in the run, where tools/report.py looks)")  # fmt: skip
    add("--split", default="test", help="folder of the data set to roll out")
    add("--only", nargs="+", metavar="NAME", help="these sequences, named as in scores.csv; no submission.csv (default: all)")
    add("--gt", type=location, help="dance: csv with the ground truth (default: test/test_gt/ or Demo_Test/GT{i}.csv)")
    add("--n_eval", "--val_vi_len", dest="val_vi_len", type=number(int, 2), metavar="T",
        help="frames per sequence, including the context frames; dance: not with --split test (default: as trained)")  # fmt: skip
    add("--windows", type=COUNT, metavar="N",
        help="robot: windows of that length from each sequence's start; 1 is the course's protocol (default: all)")  # fmt: skip


def add_sampling_flags(parser: Parser) -> None:
    """Add the flags about the prior samples and the conditions."""
    add = parser.add_argument_group("sampling").add_argument
    add("--z_scale", type=NOT_NEGATIVE, default=1.0, help="multiplies the prior samples; 0: z is the mean of the prior")
    add("--n_sample", type=COUNT, default=1, help="samples per sequence; the first and the best are scored")
    add("--seed", type=SEED, default=1, help="seed of the prior samples")
    add("--shuffle_conditions", nargs="?", type=COUNT, const=0, metavar="N",
        help="give every sequence the conditions of another, to measure their effect; N: only the first N values")  # fmt: skip


def add_input_flags(parser: Parser) -> None:
    """Add the flags that replace a dance's poses or its first frame."""
    add = parser.add_argument_group("dance: other poses, another first frame").add_argument
    add("--pose_from", type=location, metavar="PATH",
        help="poses of another video: a video, keypoints, a folder of pose images, a data set of prepare_video.py")  # fmt: skip
    add("--pose_fit", choices=["person", "none"],
        help="person: move and scale the poses to the person in the training data (default: person)")  # fmt: skip
    add("--allow_truncated", action="store_true", default=None,
        help="use the frames of the video of --pose_from before its break if it is damaged or incomplete")  # fmt: skip
    add("--pose_weights", type=location, metavar="FILE", help="weights of the pose detector (default: downloaded once)")
    add("--first_frame", type=location, metavar="IMAGE", help="image to use as the first frame")


def add_output_flags(parser: Parser) -> None:
    """Add the flags about videos and images."""
    add = parser.add_argument_group("videos and images").add_argument
    add("--show", type=INDEX, metavar="N", help="number of sequences with videos and images (default: dance all, robot 8)")
    add("--video", default="gif", choices=list(VIDEOS), help="format of compare_seq*; mp4 needs the package av")
    add("--fps", type=number(float, 1, 50), help="frames per second of the videos (default: dance 20, robot 4)")
    add("--strip_every", type=COUNT, help="time steps between two frames of a filmstrip (default: about ten frames in all)")


def merge_flags(args: argparse.Namespace, trained: dict[str, Any], task: Task) -> argparse.Namespace:
    """Return the flags of the command line, completed by the task's defaults and the flags that the model was trained with.

    Raises UserError for a flag of another task.
    """
    explicit = {name: value for name, value in vars(args).items() if value is not None}
    of_some_task = {name for other in TASKS.values() for name in other.tester_only}
    foreign = [f"--{name}" for name in explicit if name in of_some_task and name not in task.tester_only]
    if foreign:
        raise UserError(f"{' '.join(foreign)}: no such flag for the task of {args.ckpt_path} (see --help)")
    # Of the flags that both scripts have, only the length of a sequence is taken from the training.
    trained = {name: value for name, value in trained.items() if name not in vars(args) or name == "val_vi_len"}
    return argparse.Namespace(**(vars(args) | trained | task.tester_defaults | explicit))


def results_name(args: argparse.Namespace) -> str:
    """Return the name of the results' folder in the run: the split, then a part for each difference from a full test of it."""
    parts = [args.split.replace("/", "-")]
    if args.only:
        parts.append("only")
    if args.shuffle_conditions is not None:
        parts.append("shuffled")
    for path in (args.pose_from, args.first_frame):
        if path is not None:
            parts.append(f"with_{path.resolve().name}")
    return "_".join(parts)


def is_full_test(args: argparse.Namespace) -> bool:
    """Return whether the whole test split is rolled out with its own inputs, so that the results can be submitted."""
    has_own_inputs = args.pose_from is None and args.first_frame is None and args.shuffle_conditions is None
    return args.split == "test" and args.only is None and has_own_inputs


def select_sequences(sequences: list[Sequence], names: list[str] | None) -> list[Sequence]:
    """Return the sequences with these names; all if `names` is None. Raises UserError for an unknown name."""
    if names is None:
        return sequences
    by_name = {sequence.name: sequence for sequence in sequences}
    for name in names:
        if name not in by_name:
            raise UserError(f"--only {name}: no such sequence; expected one of {', '.join(list(by_name)[:5])}, ...")
    return [by_name[name] for name in names]


def read_sequences(args: argparse.Namespace, task: Task, model: VideoModel) -> list[Sequence]:
    """Return the sequences to roll out, with the inputs that the flags ask for. Raises UserError for data that do not fit."""
    sequences = select_sequences(task.sequences(args, args.split), args.only)
    sequences = task.replace_inputs(args, sequences)
    try:
        model.check_conditions(sequences[0].conditions)
    except ValueError as error:
        raise UserError(f"{args.DR}, {args.split}: {error}") from None
    if args.shuffle_conditions is not None:
        sequences = shuffle_conditions(sequences, args.seed, values=args.shuffle_conditions)
    return sequences


def write_results(args: argparse.Namespace, task: Task, results: list[Result], *, kinds: tuple[str, ...], test: dict) -> None:
    """Write the files of a test and print its scores; `test` describes it in scores.json."""
    remove_earlier(args.save_root)
    write_visualizations(args.save_root, results[: args.show], fps=args.fps, every=args.strip_every, kinds=kinds)
    more = task.write_submission(args.save_root, results, args.fps) if is_full_test(args) else {}
    scored = [result for result in results if result.scores]
    write_scores(args.save_root, scored, more=more | {"test": test})
    if not scored and args.pose_from:
        print("no scores: poses of another video have no ground truth here")
    elif not scored:
        print("no scores: there is no ground truth (dance: expected in test/test_gt/, --gt or Demo_Test/GT{i}.csv)")
    print(f"results are in {args.save_root}")


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Roll out and score the sequences that the flags choose, and write the results."""
    args = tester_parser().parse_args(argv)
    kinds = video_kinds(args.video, flag="--video")
    warn_without_cuda(args.device)
    device = find_device(args.device)
    path = find_checkpoint(args.ckpt_path, prefer="best")
    if args.save_root is None:
        args.save_root = path.parent / results_name(args)
    check_writable(args.save_root, flag="--save_root")
    keep_lost_lines_in(args.save_root)
    checkpoint = load_checkpoint(path)
    model = model_from_checkpoint(checkpoint, path).to(device)
    if args.compile:
        compile_parts(model, device)
    task = task_of(checkpoint, path)
    args = merge_flags(args, checkpoint["flags"], task)
    args.amp = find_precision(args.amp, device)
    sequences = read_sequences(args, task, model)
    frames = sum(len(sequence.conditions) for sequence in sequences)
    print(f"{path}: after {counted(checkpoint['epoch'], 'epoch')}; {counted(len(sequences), 'sequence')}, "
          f"{counted(frames, 'frame')} on {device}")  # fmt: skip
    results = run_tests(model, sequences, samples=args.n_sample, seed=args.seed, device=device, precision=args.amp,
                        z_scale=args.z_scale, batch_size=args.batch_size)  # fmt: skip
    test = {"checkpoint": path.name, "epoch": checkpoint["epoch"], "split": args.split, "seed": args.seed,
            "z_scale": args.z_scale, "samples": args.n_sample, "fps": args.fps}  # fmt: skip
    write_results(args, task, results, kinds=kinds, test=test)


if __name__ == "__main__":
    main()
