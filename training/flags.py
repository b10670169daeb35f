"""The flags of Trainer.py: names and meanings of the course, one default each; and those that other programs share."""

import argparse
import sys

from runtime.cli import (
    COUNT,
    FRACTION,
    INDEX,
    NOT_NEGATIVE,
    POSITIVE,
    PROBABILITY,
    SEED,
    Parser,
    add_device_flags,
    choice,
    config_lines,
    location,
    number,
    with_files,
)
from training.presets import DEMO, LEAST_EPOCH, MODELS, PRESETS
from visualization.videos import VIDEOS


def parse_trainer_flags(argv: list[str] | None) -> tuple[argparse.Namespace, dict]:
    """The flags of Trainer.py, and those of them that stand on the command line or in an @FILE of it. Ends the program behind
    --print_config.

    Which there are depends on --model, their defaults on --model and --preset.
    """
    argv = with_files(sys.argv[1:] if argv is None else argv)
    first = Parser("", main=MAIN_FLAGS, add_help=False)
    add_first_flags(first)
    chosen = first.parse_known_args(argv)[0]
    parser = trainer_parser(chosen.model, chosen.preset)
    if "--print_config" in argv:
        for action in parser._actions:
            action.required = False
    args = parser.parse_args(argv)
    if args.resume and args.overwrite:
        parser.error("--resume and --overwrite: found both; expected one, to go on with a run or to begin anew")
    if args.test and args.ckpt_path is None:
        parser.error("--test: needs --ckpt_path, the checkpoint to validate")
    if args.val_vi_len is None:
        args.val_vi_len = args.n_past + args.n_future
    if args.tfr_sde is None:
        args.tfr_sde = args.num_epoch // 2
    if args.tfr_d_step is None:  # 0 is reached when four fifths of the run are over
        args.tfr_d_step = min(1.0, args.tfr * args.tfr_interval * 10 / (3 * args.num_epoch))
    # A flag that was not given leaves what stands in the namespace.
    unset = object()
    marked = parser.parse_args(argv, argparse.Namespace(**dict.fromkeys(vars(args), unset)))
    given = {name: value for name, value in vars(marked).items() if value is not unset}
    if "print_config" in given:
        print(*config_lines(parser, args, given), sep="\n")
        parser.exit()
    return args, given


MAIN_FLAGS = ("model", "preset", "DR", "save_root", "num_epoch", "resume", "print_config", "use_wandb", "use_tensorboard",
              "device", "width", "batch_size", "lr", "tfr", "kl_anneal_type")  # fmt: skip
EXAMPLES = """examples:
  python Trainer.py --DR LAB4_Dataset --save_root runs/first --preset quick
  python Trainer.py --model svg_fp --DR processed_data --save_root runs/robot --width 8
  python Trainer.py --DR LAB4_Dataset --save_root runs/first --resume
  python Trainer.py --model {model} --help all    every flag; each --model has its own
"""


def add_first_flags(parser: argparse._ActionsContainer) -> None:
    """--model and --preset, which must be known before the others."""
    parser.add_argument("--model", default="pose_cvae", choices=MODELS, help="dance; robot with fixed, with learned prior")
    parser.add_argument("--preset", default="default", choices=PRESETS,
                        help="defaults of all others: best recipe; the exercise's; minutes on a CPU")  # fmt: skip


def trainer_parser(model: str, preset: str) -> Parser:
    """All flags of Trainer.py for one of MODELS with the defaults of one of PRESETS, in groups. A second spelling is the name
    that Lab 5 has for the same."""
    about = "Train a video predictor: a dance from its poses (--model pose_cvae), a robot from its actions (svg_fp, svg_lp)."
    parser = Parser(about, main=MAIN_FLAGS, epilog=EXAMPLES.format(model=model))
    parser.hint = "--help all lists all flags" if model == MODELS[0] else f"--model {model} --help all lists all flags"
    parser.remedies["--DR"] = f"no data yet? {DEMO[model]} renders some"
    group = parser.add_argument_group("run")
    add_first_flags(group)
    add = group.add_argument
    add("--DR", "--data_root", type=location, required=True, metavar="FOLDER", help="data set in the layout of Lab 4 or Lab 5")
    add("--save_root", "--log_dir", type=location, required=True, metavar="FOLDER", help="where checkpoints, metrics, plots go")
    add("--print_config", action="store_true", default=argparse.SUPPRESS,
        help="only print all settings, which can be used again as @FILE")  # fmt: skip
    add("--num_epoch", "--niter", type=COUNT, metavar="N", help="epochs of the whole run")
    add("--epoch_size", type=INDEX if model == "pose_cvae" else COUNT, metavar="N",
        help=f"batches of an epoch (dance: 0 is one pass over the video; default: that, at least {LEAST_EPOCH})")  # fmt: skip
    add("--resume", nargs="?", const="auto", choices=["auto"], metavar="auto",
        help="go on with the run in --save_root as if it had never stopped, or begin one")  # fmt: skip
    add("--overwrite", action="store_true", help="begin anew where a run lies, which is moved to a folder earlier-N/ in there")
    add("--ckpt_path", "--model_dir", type=location, metavar="PATH", help="checkpoint or run folder to train on from")
    add("--test", action="store_true", help="only validate --ckpt_path, train nothing")
    add("--per_save", type=COUNT, default=3, help="epochs between two epoch=N.ckpt")
    add("--save_minutes", type=NOT_NEGATIVE, default=10.0, metavar="MINUTES",
        help="most time between two writings of last.ckpt, which every epoch ends with too; 0: after every step")  # fmt: skip
    add("--val_every", type=COUNT, default=1, help="epochs between two validations; the last epoch is always validated")
    add("--store_visualization", nargs="?", const="gif", choices=list(VIDEOS),
        help="write a video of the validation beside each validated epoch=N.ckpt; mp4 needs the package av")  # fmt: skip
    add("--seed", type=SEED, default=1, help="seed of everything drawn at random")
    add("--use_wandb", action="store_true", help="also log to Weights & Biases (package wandb)")
    add("--use_tensorboard", action="store_true", help="also log for TensorBoard (package tensorboard)")
    add("--log_video_every", type=INDEX, default=10, metavar="N",
        help="validations between two videos in these logs, of the last 100 frames of the first sequence; 0: none")  # fmt: skip

    add = add_device_flags(parser)
    add("--num_workers", type=INDEX, default=0, help="loader processes; 0 suffices once the frame cache stands")

    add = parser.add_argument_group("data").add_argument
    add("--frame_H", type=COUNT, help="frame height in pixels: dance a multiple of 8, robot 32, 64 or 128")
    add("--frame_W", type=COUNT, help="frame width in pixels, for the robot the same")
    add("--val_vi_len", "--n_eval", type=number(int, 2), metavar="T",
        help="frames of a validation sequence, the given ones included (robot: n_past + n_future unless given)")  # fmt: skip
    add("--partial", type=FRACTION, default=1.0, help="fraction of the training data to use")
    add("--skip_bad", action="store_true", help="leave out frames that cannot be used, and say how many; off, they are refused")
    add("--fast_train", action="store_true", help="begin with a part of the clips")
    add("--fast_partial", type=FRACTION, default=0.4, help="that part, as a fraction")
    add("--fast_train_epoch", type=INDEX, default=5, help="epochs it lasts")
    add("--shift", type=INDEX, help="a clip is moved by up to this many pixels each way")
    (add_dance_flags if model == "pose_cvae" else add_robot_flags)(parser)
    other = Parser("", add_help=False)
    (add_robot_flags if model == "pose_cvae" else add_dance_flags)(other)
    owners = "svg_fp and svg_lp" if model == "pose_cvae" else "pose_cvae"
    parser.elsewhere = dict.fromkeys(other._option_string_actions, f"is a flag of --model {owners}, not of --model {model}")

    add = parser.add_argument_group("optimisation").add_argument
    add("--distortion", choices=["mse", "log_mse"],
        help="squared error, or its logarithm by frame, which is PSNR: still frames count like moving ones")  # fmt: skip
    add("--batch_size", type=COUNT, help="clips per batch, of each process")
    add("--accumulate", type=COUNT, default=1, help="batches per optimizer step")
    optimizers = "Adam", "AdamW", "SGD", "RMSprop"
    add("--optim", "--optimizer", type=choice(*optimizers), metavar="NAME", help=", ".join(optimizers))
    add("--lr", type=POSITIVE, help="peak learning rate")
    add("--lr_schedule", choices=["constant", "step", "exponential", "cosine"], help="its course")
    add("--lr_warmup", type=NOT_NEGATIVE, default=1.0, help="epochs of linear rise from 0; fractions count")
    add("--lr_step", type=COUNT, default=20, help="epochs between two drops of the step schedule")
    add("--lr_gamma", type=FRACTION, default=0.5, help="factor of the step and exponential schedules")
    add("--lr_final", type=PROBABILITY, default=0.0, help="where the cosine ends, as a fraction of --lr")
    add("--beta1", type=number(float, 0, 0.999999), default=0.9, help="momentum, in every optimizer but RMSprop")
    add("--beta2", type=number(float, 0, 0.999999), default=0.95, help="memory of the squared gradient (Adam, AdamW, RMSprop)")
    add("--weight_decay", type=NOT_NEGATIVE, help="weight decay (default: 0.01 for AdamW, 0 for the others)")
    add("--grad_clip", type=POSITIVE, default=1.0, help="largest norm of the gradient")
    add("--bad_steps", type=COUNT, default=10, help="the run stops after so many steps in a row whose numbers are not finite")
    add("--ema", type=number(float, 0, 1), help="decay per step of the averaged weights that are tested")

    add = parser.add_argument_group("teacher forcing").add_argument
    add("--tfr", type=PROBABILITY, default=1.0, help="at the start: probability of feeding the true frame back")
    add("--tfr_sde", "--tfr_start_decay_epoch", type=INDEX, metavar="EPOCH",
        help="first epoch (from 0) with a lower ratio (dance, default preset: half of the run)")  # fmt: skip
    add("--tfr_d_step", "--tfr_decay_step", type=PROBABILITY, metavar="P",
        help="how much the ratio falls each time (dance, default preset: to 0 within three tenths of the run)")  # fmt: skip
    add("--tfr_floor", "--tfr_lower_bound", type=PROBABILITY, default=0.0, metavar="P", help="the ratio falls no lower")
    add("--tfr_interval", type=COUNT, default=1, help="epochs between two falls")
    add("--tfr_coin", default="batch", choices=["batch", "epoch"], help="how often the coin is tossed")
    add("--feedback_noise", type=NOT_NEGATIVE, default=0.0, help="its standard deviation, pixels in [0, 1]")

    add = parser.add_argument_group("KL annealing").add_argument
    add("--kl_anneal_type", choices=["Cyclical", "Monotonic", "None"], help="course of beta over the run")
    add("--kl_anneal_cyclical", dest="kl_anneal_type", action="store_const", const="Cyclical",
        default=argparse.SUPPRESS, help="short for --kl_anneal_type Cyclical")  # fmt: skip
    add("--kl_anneal_cycle", type=COUNT, help="number of cycles in the run")
    add("--kl_anneal_ratio", type=FRACTION, help="fraction of a cycle in which beta rises")
    add("--kl_weight", "--beta", type=NOT_NEGATIVE, default=1e-4, metavar="WEIGHT",
        help="weight of a nat against the squared error per pixel")  # fmt: skip
    parser.set_defaults(**PRESETS[preset][model])
    return parser


def add_dance_flags(parser: Parser) -> None:
    """What only the pose-conditioned model has."""
    add = parser.add_argument_group("dance: clips and model").add_argument
    add("--train_vi_len", type=number(int, 2), help="frames of a training clip")
    add("--reference", choices=["video", "clip"], help="known frame: any of the video, or the clip's first")
    add("--flip", type=PROBABILITY, default=0.0, help="probability that a clip is mirrored")
    add("--pose_window", type=int, choices=[1, 3, 5, 7, 9],
        help="pose images that the model sees of each frame: its own, and as many before as after it")  # fmt: skip
    add("--F_dim", type=number(int, 4), default=128, help="channels of the frame features")
    add("--L_dim", type=number(int, 4), help="channels of the label (pose) features")
    add("--N_dim", type=INDEX, default=12, help="channels of the latent z; 0: none, a deterministic predictor")
    add("--D_out_dim", type=number(int, 8, step=8), default=192, help="channels of the decoder fusion's output")
    add("--recompute", type=INDEX, default=0, metavar="N",
        help="for long clips: keep the activations of N time steps only and compute the others anew (0: keep all)")  # fmt: skip


def add_robot_flags(parser: Parser) -> None:
    """What only SVG has."""
    add = parser.add_argument_group("robot: clips and model").add_argument
    add("--n_past", type=COUNT, default=2, help="frames that are given")
    add("--n_future", type=COUNT, default=10, help="frames that are predicted in training, and in validation unless --n_eval")
    add("--windows", type=COUNT, metavar="N", help="validation windows of a sequence, from its start (default: as many as fit)")
    add("--cond_shift", type=int, default=1, choices=[0, 1], help="frame t follows from the condition at t minus this")
    add("--g_dim", type=COUNT, default=128, help="values of the vector between encoder and decoder")
    add("--z_dim", type=COUNT, default=64, help="values of the latent z")
    add("--rnn_size", type=COUNT, default=256, help="hidden values of an LSTM layer")
    add("--predictor_rnn_layers", type=COUNT, default=2, help="layers of the frame predictor's LSTM")
    add("--posterior_rnn_layers", type=COUNT, default=1, help="layers of the posterior's LSTM")
    add("--prior_rnn_layers", type=COUNT, default=1, help="layers of the learned prior's LSTM")
    add("--norm", choices=["group", "batch"], help="normalisation; batch is the paper's")
    add("--compose", choices=["none", "last"], help="paint the whole frame, or over the one that skips come from")
    add("--width", type=COUNT, help="channels at full resolution; 64 is the paper's, 8 is for a CPU")
    add("--last_frame_skip", action="store_true", help="skips come from the frame before, not from the last given one")
