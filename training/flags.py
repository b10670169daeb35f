"""The flags of Trainer.py: the course's names and meanings, and one default for each."""

import argparse
import sys
from collections.abc import Callable
from typing import NamedTuple

from runtime.cli import (
    COUNT,
    FRACTION,
    INDEX,
    NOT_NEGATIVE,
    POSITIVE,
    PROBABILITY,
    SEED,
    ParsedFlags,
    Parser,
    add_device_flags,
    choice,
    config_lines,
    expand_flag_files,
    location,
    number,
)
from training.presets import LEAST_EPOCH, MODELS, PRESETS
from visualization.video_kinds import VIDEOS

MAIN_FLAGS = ("model", "preset", "DR", "save_root", "num_epoch", "minutes", "resume", "print_config", "use_wandb",
              "use_tensorboard", "device", "width", "batch_size", "lr", "tfr", "kl_anneal_type")  # fmt: skip
DEFAULT_MODEL = "pose_cvae"
OPTIMIZERS = ("Adam", "AdamW", "SGD", "RMSprop")
COMPUTED_DEFAULTS = {  # in words for --help, of flags without a fixed default in a preset
    "epoch_size": f"one pass over the video, but at least {LEAST_EPOCH}",
    "val_vi_len": "n_past + n_future",
    "tfr_sde": "half of --num_epoch",
    "tfr_d_step": "the ratio reaches 0 after four fifths of the run",
    "weight_decay": "0.01 for AdamW, 0 for the others",
    "windows": "as many as fit",
}
DANCE_EXAMPLES = """examples:
  python Trainer.py --DR LAB4_Dataset --save_root runs/first --preset quick
  python Trainer.py --DR LAB4_Dataset --save_root runs/first --preset quick --resume
"""
ROBOT_EXAMPLES = """examples:
  python Trainer.py --model {model} --DR processed_data --save_root runs/robot --width 8
  python Trainer.py --model {model} --DR processed_data --save_root runs/robot --width 8 --resume
"""
HELP_EXAMPLE = "  python Trainer.py --model {model} --help all    every flag; each --model has its own\n"


class TaskFlags(NamedTuple):
    """The part of the command line that differs from task to task, see TASK_FLAGS."""

    name: str
    models: tuple[str, ...]  # the values of --model
    add: Callable[[Parser], None]  # adds the flags of the task's clips and models
    examples: str  # for --help, with {model}
    demo: str  # the command that renders a small data set
    has_one_pass: bool  # whether --epoch_size 0 is one pass over the video


def parse_trainer_flags(argv: list[str] | None) -> ParsedFlags:
    """Return all settings of Trainer.py, and those of them that the command line or an @FILE in it sets.

    --model and --preset decide which flags there are and what their defaults are, so they are parsed first. --print_config ends
    the program.
    """
    argv = expand_flag_files(sys.argv[1:] if argv is None else argv)
    first = Parser("", main=MAIN_FLAGS, add_help=False)
    add_model_flags(first)
    add_print_config(first)
    chosen, _ = first.parse_known_args(argv)
    parser = trainer_parser(chosen.model, chosen.preset)
    if "print_config" in chosen:
        parser.require_nothing()
    args, explicit = parser.parse_explicit(argv)
    check_combinations(parser, args, explicit)
    set_dependent_defaults(args)
    if "print_config" in explicit:
        if args.minutes:
            args.epoch_size = None  # chosen when training begins
        print(*config_lines(parser, args, explicit), sep="\n")
        parser.exit()
    return ParsedFlags(args, explicit)


def check_combinations(parser: Parser, args: argparse.Namespace, explicit: dict) -> None:
    """End the program with an error if two flags contradict each other."""
    if args.resume and args.overwrite:
        parser.error("--resume, --overwrite: expected one of them, got both; the first resumes the run, the second starts over")
    if args.test and args.ckpt_path is None:
        parser.error("--test: expected --ckpt_path with it, the checkpoint to validate")
    if args.minutes and args.test:
        parser.error("--minutes: expected without --test, which trains nothing")
    if args.minutes and "epoch_size" in explicit:
        parser.error("--minutes, --epoch_size: expected one of them, got both; the first chooses the second")


def set_dependent_defaults(args: argparse.Namespace) -> None:
    """Set the defaults that follow from other flags."""
    if args.val_vi_len is None:
        args.val_vi_len = args.n_past + args.n_future
    if args.tfr_sde is None:
        args.tfr_sde = args.num_epoch // 2
    if args.tfr_d_step is None:  # the ratio reaches 0 after four fifths of the run
        args.tfr_d_step = min(1.0, args.tfr * args.tfr_interval * 10 / (3 * args.num_epoch))


def trainer_parser(model: str, preset: str) -> Parser:
    """Return the parser of all flags for one of MODELS, with the defaults of one of PRESETS.

    A flag's second spelling is its name in Lab 5.
    """
    task = task_flags(model)
    about = "Train a video predictor: a dance from its poses (--model pose_cvae), a robot from its actions (svg_fp, svg_lp)."
    parser = Parser(about, main=MAIN_FLAGS, epilog=(task.examples + HELP_EXAMPLE).format(model=model))
    parser.hint = f"{'' if model == DEFAULT_MODEL else f'--model {model} '}--help all lists all flags"
    parser.advice_if_missing["--DR"] = f"no data yet? {task.demo} renders some"
    add_run_flags(parser, has_one_pass=task.has_one_pass)
    add_machine_flags(parser)
    add_data_flags(parser)
    task.add(parser)
    add_optimization_flags(parser)
    add_teacher_forcing_flags(parser)
    add_annealing_flags(parser)
    parser.set_defaults(**PRESETS[preset][model])
    for action in parser._actions:
        if action.default is None and action.dest in COMPUTED_DEFAULTS:
            action.help = f"{action.help} (default: {COMPUTED_DEFAULTS[action.dest]})"
    parser.foreign_flags = foreign_flags(model)
    return parser


def task_flags(model: str) -> TaskFlags:
    """Return the flags of the task that one of MODELS is for."""
    return next(task for task in TASK_FLAGS if model in task.models)


def foreign_flags(model: str) -> dict[str, str]:
    """Return the flags of the other tasks, with the error message for each."""
    owners: dict[str, list[str]] = {}
    for task in TASK_FLAGS:
        if model not in task.models:
            other = Parser("", add_help=False)
            task.add(other)
            for name in other._option_string_actions:
                owners.setdefault(name, []).extend(task.models)
    return {name: f"is a flag of --model {' and '.join(models)}, not of --model {model}" for name, models in owners.items()}


def add_model_flags(parser: argparse._ActionsContainer) -> None:
    """Add --model and --preset, on which the others depend."""
    parser.add_argument("--model", default=DEFAULT_MODEL, choices=MODELS,
                        help="pose_cvae: dance; svg_fp and svg_lp: robot, with a fixed or a learned prior")  # fmt: skip
    parser.add_argument("--preset", default="default", choices=PRESETS,
                        help="defaults of the other flags: default is the best recipe, course the exercise's, quick trains for "
                             "minutes on a CPU")  # fmt: skip


def add_print_config(parser: argparse._ActionsContainer) -> None:
    """Add --print_config, without a default: it is no setting."""
    parser.add_argument("--print_config", action="store_true", default=argparse.SUPPRESS,
                        help="print all settings and exit; saved to FILE, they can be used again as @FILE")  # fmt: skip


def add_run_flags(parser: Parser, *, has_one_pass: bool) -> None:
    """Add the flags about the run: its folders, its length, what it writes."""
    group = parser.add_argument_group("run")
    add_model_flags(group)
    add = group.add_argument
    add("--DR", "--data_root", type=location, required=True, metavar="FOLDER", help="data set in the layout of Lab 4 or Lab 5")
    add("--save_root", "--log_dir", type=location, required=True, metavar="FOLDER",
        help="folder for checkpoints, metrics and plots")  # fmt: skip
    add_print_config(group)
    add("--num_epoch", "--niter", type=COUNT, metavar="N", help="length of the run in epochs")
    add("--epoch_size", type=INDEX if has_one_pass else COUNT, metavar="N",
        help="batches per epoch" + ("; 0: one pass over the video" if has_one_pass else ""))  # fmt: skip
    add("--minutes", type=POSITIVE, metavar="M",
        help="choose --epoch_size so that training takes about M minutes on this machine; measured in the first seconds, fixed "
             "before the first epoch and written to config.json")  # fmt: skip
    add("--resume", nargs="?", const="auto", choices=["auto"], metavar="auto",
        help="resume the run in --save_root as if it had never stopped, or start it if there is none")  # fmt: skip
    add("--overwrite", action="store_true", help="start over in a folder with a run; that run is moved to earlier-N/ inside it")
    add("--ckpt_path", "--model_dir", type=location, metavar="PATH", help="checkpoint or run folder to continue training from")
    add("--test", action="store_true", help="validate --ckpt_path and exit, without training")
    add("--per_save", type=COUNT, default=3, help="epochs between two epoch=N.ckpt")
    add("--save_minutes", type=NOT_NEGATIVE, default=10.0, metavar="MINUTES",
        help="minutes between two writings of last.ckpt, which is also written after each epoch; 0: every step")  # fmt: skip
    add("--val_every", type=COUNT, default=1, help="epochs between two validations; the last epoch is always validated")
    add("--store_visualization", nargs="?", const="gif", choices=list(VIDEOS),
        help="write a video of the validation next to each validated epoch=N.ckpt; mp4 needs the package av")  # fmt: skip
    add("--seed", type=SEED, default=1, help="seed of all random numbers")
    add("--use_wandb", action="store_true", help="also log to Weights & Biases (package wandb)")
    add("--use_tensorboard", action="store_true", help="also log for TensorBoard (package tensorboard)")
    add("--log_video_every", type=INDEX, default=10, metavar="N",
        help="validations between two videos in these logs (last 100 frames of the first sequence); 0: none")  # fmt: skip


def add_machine_flags(parser: Parser) -> None:
    """Add the flags about the machine."""
    add = add_device_flags(parser)
    add("--num_workers", type=INDEX, default=0, help="loader processes; 0 is enough once the frame cache exists")


def add_data_flags(parser: Parser) -> None:
    """Add the flags about frames and clips that all tasks have."""
    add = parser.add_argument_group("data").add_argument
    add("--frame_H", type=COUNT, help="frame height in pixels: dance a multiple of 8; robot 32, 64 or 128")
    add("--frame_W", type=COUNT, help="frame width in pixels; for the robot equal to the height")
    add("--val_vi_len", "--n_eval", type=number(int, 2), metavar="T",
        help="frames in a validation sequence, including the context frames")  # fmt: skip
    add("--partial", type=FRACTION, default=1.0, help="fraction of the training data to use")
    add("--skip_bad", action="store_true", help="skip unusable frames and print how many; without it they are an error")
    add("--fast_train", action="store_true", help="train the first epochs on a part of the clips")
    add("--fast_partial", type=FRACTION, default=0.4, help="size of that part, as a fraction of the clips")
    add("--fast_train_epoch", type=INDEX, default=5, help="number of these epochs")
    add("--shift", type=INDEX, help="augmentation: shift a clip by up to this many pixels in each direction")


def add_dance_flags(parser: Parser) -> None:
    """Add the flags of the dance's clips and of PoseCVAE."""
    add = parser.add_argument_group("dance: clips and model").add_argument
    add("--train_vi_len", type=number(int, 2), help="frames in a training clip")
    add("--reference", choices=["video", "clip"], help="reference frame: any frame of the video, or the first of the clip")
    add("--flip", type=PROBABILITY, default=0.0, help="augmentation: probability of mirroring a clip")
    add("--pose_window", type=int, choices=[1, 3, 5, 7, 9],
        help="pose images that the model sees for each frame: its own, and equally many before and after it")  # fmt: skip
    add("--F_dim", type=number(int, 4), default=128, help="channels of the frame features")
    add("--L_dim", type=number(int, 4), help="channels of the label (pose) features")
    add("--N_dim", type=INDEX, default=12, help="channels of the latent z; 0: no latent, a deterministic predictor")
    add("--D_out_dim", type=number(int, 8, step=8), default=192, help="output channels of the decoder fusion")
    add("--recompute", type=INDEX, default=0, metavar="N",
        help="for long clips: keep the activations of N time steps and recompute the others (0: keep all)")  # fmt: skip


def add_robot_flags(parser: Parser) -> None:
    """Add the flags of the robot's clips and of SVG."""
    add = parser.add_argument_group("robot: clips and model").add_argument
    add("--n_past", type=COUNT, default=2, help="context frames")
    add("--n_future", type=COUNT, default=10, help="predicted frames in training, and in validation without --n_eval")
    add("--windows", type=COUNT, metavar="N", help="validation windows per sequence, counted from its start")
    add("--cond_shift", type=int, default=1, choices=[0, 1], help="frame t is predicted from the condition at t minus this")
    # Group normalization makes a vector of one value constant, so that no frame reaches the LSTMs, or raises ValueError.
    add("--g_dim", type=number(int, 2), default=128, help="size of the vector between encoder and decoder")
    add("--z_dim", type=COUNT, default=64, help="size of the latent z")
    add("--rnn_size", type=COUNT, default=256, help="hidden size of an LSTM layer")
    add("--predictor_rnn_layers", type=COUNT, default=2, help="LSTM layers of the frame predictor")
    add("--posterior_rnn_layers", type=COUNT, default=1, help="LSTM layers of the posterior")
    add("--prior_rnn_layers", type=COUNT, default=1, help="LSTM layers of the learned prior")
    add("--norm", choices=["group", "batch"], help="normalization layers; batch is the paper's")
    add("--compose", choices=["none", "last"], help="none: generate the whole frame; last: paint over the frame of the skips")
    add("--width", type=COUNT, help="channels at full resolution; 64 is the paper's, 8 suits a CPU")
    add(
        "--last_frame_skip", action="store_true", help="take skip connections from the previous frame, not the last context frame"
    )


def add_optimization_flags(parser: Parser) -> None:
    """Add the flags about the loss and the optimizer."""
    add = parser.add_argument_group("optimization").add_argument
    add("--distortion", choices=["mse", "log_mse"],
        help="squared error, or its logarithm per frame, as in PSNR: still frames then count like moving ones")  # fmt: skip
    add("--batch_size", type=COUNT, help="clips per batch and process")
    add("--accumulate", type=COUNT, default=1, help="batches per optimizer step")
    add("--optim", "--optimizer", type=choice(*OPTIMIZERS), metavar="NAME", help=", ".join(OPTIMIZERS))
    add("--lr", type=POSITIVE, help="peak learning rate")
    add("--lr_schedule", choices=["constant", "step", "exponential", "cosine"], help="learning rate schedule")
    add("--lr_warmup", type=NOT_NEGATIVE, default=1.0, help="epochs of linear warm-up from 0; may be a fraction")
    add("--lr_step", type=COUNT, default=20, help="epochs between two decays of the step schedule")
    add("--lr_gamma", type=FRACTION, default=0.5, help="decay factor of the step and exponential schedules")
    add("--lr_final", type=PROBABILITY, default=0.0, help="final value of the cosine schedule, as a fraction of --lr")
    add("--beta1", type=number(float, 0, 0.999999), default=0.9, help="momentum, in every optimizer but RMSprop")
    add(
        "--beta2", type=number(float, 0, 0.999999), default=0.95, help="decay of the mean squared gradient (Adam, AdamW, RMSprop)"
    )
    add("--weight_decay", type=NOT_NEGATIVE, help="weight decay")
    add("--grad_clip", type=POSITIVE, default=1.0, help="largest gradient norm; a larger gradient is scaled down to it")
    add("--bad_steps", type=COUNT, default=10, help="stop after this many steps in a row with a non-finite loss or gradient")
    add("--ema", type=number(float, 0, 1), help="decay per step of the EMA weights, which are validated and tested")


def add_teacher_forcing_flags(parser: Parser) -> None:
    """Add the flags of scheduled sampling."""
    add = parser.add_argument_group("teacher forcing").add_argument
    add("--tfr", type=PROBABILITY, default=1.0, help="teacher forcing ratio at the start: probability of a teacher-forced batch")
    add("--tfr_sde", "--tfr_start_decay_epoch", type=INDEX, metavar="EPOCH",
        help="first epoch, counted from 0, with a lower ratio")  # fmt: skip
    add("--tfr_d_step", "--tfr_decay_step", type=PROBABILITY, metavar="P", help="decrease of the ratio at each decay")
    add("--tfr_floor", "--tfr_lower_bound", type=PROBABILITY, default=0.0, metavar="P", help="lowest ratio")
    add("--tfr_interval", type=COUNT, default=1, help="epochs between two such decays")
    add("--tfr_coin", default="batch", choices=["batch", "epoch"], help="one scheduled-sampling draw for each batch or epoch")
    add("--feedback_noise", type=NOT_NEGATIVE, default=0.0,
        help="standard deviation of noise added to the previous frame, for pixels in [0, 1]")  # fmt: skip


def add_annealing_flags(parser: Parser) -> None:
    """Add the flags about the weight of the KL term."""
    add = parser.add_argument_group("KL annealing").add_argument
    add("--kl_anneal_type", choices=["Cyclical", "Monotonic", "None"], help="schedule of beta over the run")
    add("--kl_anneal_cyclical", dest="kl_anneal_type", action="store_const", const="Cyclical",
        default=argparse.SUPPRESS, help="short for --kl_anneal_type Cyclical")  # fmt: skip
    add("--kl_anneal_cycle", type=COUNT, help="number of cycles in the run")
    add("--kl_anneal_ratio", type=FRACTION, help="fraction of a cycle in which beta rises")
    add("--kl_weight", "--beta", type=NOT_NEGATIVE, default=1e-4, metavar="WEIGHT",
        help="weight of one nat of KL relative to the squared error per pixel")  # fmt: skip


TASK_FLAGS = (
    TaskFlags(
        name="dance",
        models=("pose_cvae",),
        add=add_dance_flags,
        examples=DANCE_EXAMPLES,
        demo="python tools/make_demo_data.py --out demo_data",
        has_one_pass=True,
    ),
    TaskFlags(
        name="robot",
        models=("svg_fp", "svg_lp"),
        add=add_robot_flags,
        examples=ROBOT_EXAMPLES,
        demo="python tools/make_demo_data.py --scene robot --out demo_robot",
        has_one_pass=False,
    ),
)
