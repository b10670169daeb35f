"""Rolls out every test sequence of a data set with a trained model.

    python Tester.py --DR LAB4_Dataset --ckpt_path runs/first

Writes GIFs, strips, the dance's submission.csv and, where the truth is known, scores and curves. Model and kind of data come
from the checkpoint.
"""

import runtime.openmp  # noqa: F401  (must precede torch)

# isort: split
import argparse

from data.clips import Sequence
from evaluation.results import remove_earlier, write_pictures, write_scores
from evaluation.rollout import shuffle_conditions
from evaluation.scores import run_tests
from runtime.cli import COUNT, INDEX, NOT_NEGATIVE, SEED, Parser, add_device_flags, location, number
from runtime.devices import compile_parts, find_device, find_precision
from runtime.files import check_writable
from tasks import TASKS, Task, directed
from training.checkpoints import find_checkpoint, load_checkpoint, model_from_checkpoint
from utils import UserError, one_line_errors
from visualization.videos import VIDEOS, video_kinds

MAIN_FLAGS = ("DR", "ckpt_path", "save_root", "split", "only", "device", "n_sample", "pose_from", "first_frame", "show",
              "video", "fps")  # fmt: skip
EXAMPLES = """examples:
  python Tester.py --DR LAB4_Dataset --ckpt_path runs/first
  python Tester.py --DR processed_data --ckpt_path runs/robot --n_sample 100
"""


def tester_parser() -> Parser:
    """All flags of Tester.py."""
    parser = Parser("Roll out the test sequences with a trained model; write pictures, scores and the dance's submission.csv.",
                    main=MAIN_FLAGS, epilog=EXAMPLES)  # fmt: skip
    add = parser.add_argument_group("run").add_argument
    add("--DR", "--data_root", type=location, required=True, metavar="FOLDER", help="data set in the layout that was trained on")
    add("--ckpt_path", "--model_dir", type=location, required=True, metavar="PATH", help="checkpoint or run (its best.ckpt)")
    add("--save_root", "--log_dir", type=location, metavar="FOLDER",
        help="where the results go (default: test/ in the run, where tools/report.py looks)")  # fmt: skip
    add("--split", default="test", help="folder of the data set to roll out")
    add("--only", nargs="+", metavar="NAME", help="these sequences, named as in scores.csv; no submission.csv (default: all)")
    add("--gt", type=location, help="dance: csv with the true frames (default: test/test_gt/ or Demo_Test/GT{i}.csv)")
    add("--n_eval", "--val_vi_len", dest="val_vi_len", type=number(int, 2), metavar="T",
        help="frames of a sequence, the given ones included; dance: not in test/ (default: as in training)")  # fmt: skip
    add("--windows", type=COUNT, metavar="N",
        help="robot: windows of that length from each sequence's start; 1 is the course's protocol (default: all)")  # fmt: skip
    add = add_device_flags(parser)
    add("--batch_size", type=COUNT, default=8, help="sequences or samples rolled out side by side")
    add = parser.add_argument_group("sampling").add_argument
    add("--z_scale", type=NOT_NEGATIVE, default=1.0, help="z is a prior sample times this; 0 takes the prior's mean")
    add("--n_sample", type=COUNT, default=1, help="samples of each sequence; scores are of the first, and of the best")
    add("--seed", type=SEED, default=1, help="seed of the prior samples")
    add("--shuffle_conditions", nargs="?", type=COUNT, const=0, metavar="N",
        help="give every sequence the conditions of another, to see what it costs; N: the first N values only")  # fmt: skip
    add = parser.add_argument_group("dance: other poses, another first frame").add_argument
    add("--pose_from", type=location, metavar="PATH",
        help="poses of another video: a video, keypoints, a folder of pose images, a data set of prepare_video.py")  # fmt: skip
    add("--pose_fit", choices=["person", "none"], help="show them as large and where training shows its person (default: person)")
    add("--pose_weights", type=location, metavar="FILE", help="the pose detector's weights (default: downloaded once)")
    add("--first_frame", type=location, metavar="IMAGE", help="begin with this picture")
    add = parser.add_argument_group("pictures").add_argument
    add("--show", type=INDEX, metavar="N", help="sequences that get pictures, the first ones (default: dance all, robot 8)")
    add("--video", default="gif", choices=list(VIDEOS), help="what compare_seq* are written as; mp4 needs the package av")
    add("--fps", type=number(float, 1, 50), help="frames per second of the videos (default: dance 20, robot 4)")
    add("--strip_every", type=COUNT, help="frames between two pictures of a strip (default: some ten pictures)")
    parser.set_defaults(amp=None)  # the task's
    return parser


def merge_flags(args: argparse.Namespace, trained: dict, task: Task) -> argparse.Namespace:
    """The flags given here over those of the training over the task's defaults. Raises UserError for another task's."""
    given = {name: value for name, value in vars(args).items() if value is not None}
    for other in TASKS.values():
        if foreign := [f"--{name}" for name in other.tester_only if name in given and other is not task]:
            raise UserError(f"{' '.join(foreign)}: found for {args.ckpt_path}, whose kind of video has no such flag (see --help)")
    # Of flags that both scripts have, the training's length of a sequence is the only one that matters here.
    trained = {name: value for name, value in trained.items() if name not in vars(args) or name == "val_vi_len"}
    return argparse.Namespace(**(vars(args) | trained | task.tester_defaults | given))


def results_name(args: argparse.Namespace) -> str:
    """The folder of the results in the run's: that of the split, or another one for what is no test of all of it."""
    parts = [args.split.replace("/", "-"), *(["only"] if args.only else []),
             *(["shuffled"] if args.shuffle_conditions is not None else [])]  # fmt: skip
    others = [path.resolve().name for path in (args.pose_from, args.first_frame) if path]
    return "_".join([*parts, *(f"with_{name}" for name in others)])


def choose(sequences: list[Sequence], names: list[str] | None) -> list[Sequence]:
    """The sequences of these names, all without names. Raises UserError for an unknown one."""
    known = {sequence.name: sequence for sequence in sequences}
    for name in names or []:
        if name not in known:
            raise UserError(f"--only {name}: no such sequence; expected one of {', '.join(list(known)[:5])}, ...")
    return [known[name] for name in names] if names else sequences


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    args = tester_parser().parse_args(argv)
    kinds = video_kinds(args.video, flag="--video")
    device = find_device(args.device)
    path = find_checkpoint(args.ckpt_path, prefer="best")
    if args.save_root is None:
        args.save_root = path.parent / results_name(args)
    check_writable(args.save_root, flag="--save_root")
    state = load_checkpoint(path)
    model = model_from_checkpoint(state, path).to(device)
    if args.compile:
        compile_parts(model, device)
    task = TASKS[state["model_config"]["family"]]
    args = merge_flags(args, state["flags"], task)
    args.amp = find_precision(args.amp, device)
    sequences = choose(task.sequences(args, args.split), args.only)
    elsewhere = bool(args.pose_from or args.first_frame)
    if elsewhere:
        sequences = directed(args, sequences)
    try:
        model.check_conditions(sequences[0].conditions)
    except ValueError as error:
        raise UserError(f"{args.DR}, {args.split}: {error}") from None
    if args.shuffle_conditions is not None:
        sequences = shuffle_conditions(sequences, args.seed, values=args.shuffle_conditions)
    frames = sum(len(sequence.conditions) for sequence in sequences)
    print(f"{path}: epoch {state['epoch']}; {len(sequences)} sequences, {frames} frames on {device}")
    results = run_tests(model, sequences, samples=args.n_sample, seed=args.seed, device=device, precision=args.amp,
                        z_scale=args.z_scale, batch_size=args.batch_size)  # fmt: skip
    remove_earlier(args.save_root)
    write_pictures(args.save_root, results[: args.show], fps=args.fps, every=args.strip_every, kinds=kinds)
    genuine = args.split == "test" and args.only is None and args.shuffle_conditions is None and not elsewhere
    more = task.hand_in(args.save_root, results, fps=args.fps) if task.hand_in and genuine else {}
    known = [result for result in results if result.scores]
    about = {"checkpoint": path.name, "epoch": state["epoch"], "split": args.split, "seed": args.seed, "z_scale": args.z_scale,
             "samples": args.n_sample, "fps": args.fps}  # fmt: skip
    write_scores(args.save_root, known, more=more | {"test": about})
    if not known:
        print("the truth is not known (dance: test/test_gt/, --gt or Demo_Test/GT{i}.csv), so nothing is scored")
    print(f"results are in {args.save_root}")


if __name__ == "__main__":
    main()
