"""The flags of Trainer.py: names and meanings of the course, types that check, one default each."""
import argparse
import sys
from pathlib import Path

from presets import LEAST_EPOCH, MODELS, PRESETS
from utils import RANK


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the default of every flag that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        has_none = action.default is None or action.nargs == 0  # nargs 0: a switch, which is off
        return action.help if has_none else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """Shows every default in --help and refuses a bad flag in one line."""

    hint = "--help lists all flags"  # behind every refusal

    def __init__(self, description: str, **settings):
        super().__init__(description=description, formatter_class=HelpFormatter, allow_abbrev=False, **settings)

    def error(self, message: str):
        if RANK == "0":  # all find the same, one says it
            print(f"error: {' '.join(message.split())} ({self.hint})", file=sys.stderr)
        sys.exit(2)


LARGEST = 2**31 - 1  # of a whole number: a count that no machine could work off ends otherwise in whatever overflows first


def number(kind: type, low: float, high: float | None = None, *, above: bool = False, step: int = 0):
    """An argparse type: an int or float within [low, high], or (low, high] where `above`; a multiple of `step`, if any. Without
    `high`, an int is at most LARGEST and a float finite."""
    most = high if high is not None else LARGEST if kind is int else sys.float_info.max
    expected = f"a multiple of {step}," if step else "an integer" if kind is int else "a number"
    expected += f" {'above' if above else 'of at least'} {low}"
    limit = f" and at most {most}"
    expected += limit if high is not None else ""

    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} found, {expected} expected") from None
        inside = (low < value if above else low <= value) and value <= most
        if not inside or (step and value % step):
            too_large = limit if high is None and value > most else ""
            raise argparse.ArgumentTypeError(f"{text[:40]} found, {expected}{too_large} expected")
        return value

    return parse


COUNT = number(int, 1)
INDEX = number(int, 0)
SEED = number(int, 0, 2**64 - 1)
PROBABILITY = number(float, 0, 1)
FRACTION = number(float, 0, 1, above=True)
POSITIVE = number(float, 0, above=True)
NOT_NEGATIVE = number(float, 0)


def location(text: str) -> Path:
    """An argparse type: a path. Empty text would mean the folder where the program was started."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} found, a path expected; is a variable of the shell empty?")
    try:
        text.encode()
    except UnicodeEncodeError:  # a name whose bytes are no text, which cannot be printed, nor drawn into a picture
        raise argparse.ArgumentTypeError(f"{text!r} found, a path of Unicode characters expected") from None
    return Path(text)


def add_device_flags(parser: Parser):
    """The flags about the machine, the same for Trainer and Tester; returns the group's add_argument for more of them."""
    add = parser.add_argument_group("machine").add_argument
    add("--device", default="auto", help="auto takes the first of cuda, mps, cpu that is there")
    add("--cuda", dest="device", action="store_const", const="cuda", help="short for --device cuda")
    add("--amp", default="auto", choices=["auto", "none", "bfloat16", "float16"],
        help="autocast precision, loss and KL stay float32; auto: bfloat16 where the machine is fast in it")  # fmt: skip
    add("--compile", action="store_true", help="torch.compile the model: minutes at the start, meant for a GPU")
    add("--cache_dir", type=location, help="folder of the decoded frames (default: DR/.frame_cache, else the user's cache)")
    return add


def choice(*names: str):
    """An argparse type: one of `names`, in any case of letters."""

    def parse(text: str) -> str:
        for name in names:
            if name.lower() == text.lower():
                return name
        raise argparse.ArgumentTypeError(f"{text!r} found, one of {', '.join(names)} expected")

    return parse


def parse_trainer_flags(argv: list[str] | None) -> tuple[argparse.Namespace, dict]:
    """The flags of Trainer.py, and those of them that stand on the command line.

    Which there are depends on --model, their defaults on --model and --preset.
    """
    first = Parser("", add_help=False)
    add_first_flags(first)
    chosen = first.parse_known_args(argv)[0]
    parser = trainer_parser(chosen.model, chosen.preset)
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
    return args, {name: value for name, value in vars(marked).items() if value is not unset}


def add_first_flags(parser: argparse._ActionsContainer) -> None:
    """--model and --preset, which must be known before the others."""
    parser.add_argument("--model", default="pose_cvae", choices=MODELS, help="dance; robot with fixed, with learned prior")
    parser.add_argument("--preset", default="default", choices=PRESETS,
                        help="defaults of all other flags: the best recipe; the exercise's own; minutes on a CPU")  # fmt: skip


def trainer_parser(model: str, preset: str) -> Parser:
    """All flags of Trainer.py for one of MODELS with the defaults of one of PRESETS, in groups. A second spelling is the name
    that Lab 5 has for the same."""
    parser = Parser(f"Train a video predictor. These are the flags of --model {model}; each model has its own.")

    parser.hint = f"--model {model} --help lists all flags; each --model has its own, {', '.join(MODELS)}"
    group = parser.add_argument_group("run")
    add_first_flags(group)
    add = group.add_argument
    add("--DR", "--data_root", type=location, required=True, metavar="FOLDER", help="data set in the layout of Lab 4 or Lab 5")
    add("--save_root", "--log_dir", type=location, required=True, metavar="FOLDER", help="where checkpoints, metrics, plots go")
    add("--num_epoch", "--niter", type=COUNT, metavar="N", help="epochs of the whole run")
    add("--epoch_size", type=INDEX if model == "pose_cvae" else COUNT, metavar="N",
        help=f"batches of an epoch (dance: 0 is one pass over the video; default: that, at least {LEAST_EPOCH})")  # fmt: skip
    add("--resume", nargs="?", const="auto", choices=["auto"],
        help="go on with the run in --save_root as if it had never stopped; begin one if there is none")  # fmt: skip
    add("--overwrite", action="store_true", help="begin anew where a run lies, which is moved to a folder earlier-N/ in there")
    add("--ckpt_path", "--model_dir", type=location, metavar="PATH", help="checkpoint or run folder to train on from")
    add("--test", action="store_true", help="only validate --ckpt_path, train nothing")
    add("--per_save", type=COUNT, default=3, help="epochs between two epoch=N.ckpt")
    add("--save_minutes", type=NOT_NEGATIVE, default=10.0, metavar="MINUTES",
        help="most time between two writings of last.ckpt, which every epoch ends with too; 0: after every step")  # fmt: skip
    add("--val_every", type=COUNT, default=1, help="epochs between two validations; the last epoch is always validated")
    add("--store_visualization", action="store_true", help="write a GIF of the validation beside each validated epoch=N.ckpt")
    add("--seed", type=SEED, default=1, help="seed of everything drawn at random")
    add("--use_wandb", action="store_true", help="also log to Weights & Biases (package wandb)")
    add("--use_tensorboard", action="store_true", help="also log for TensorBoard (package tensorboard)")

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

    add = parser.add_argument_group("optimisation").add_argument
    add("--distortion", choices=["mse", "log_mse"],
        help="squared error, or its logarithm by frame, which is PSNR: still frames count like moving ones")  # fmt: skip
    add("--batch_size", type=COUNT, help="clips per batch, of each process where torchrun starts several")
    add("--accumulate", type=COUNT, default=1, help="batches per optimiser step")
    optimisers = "Adam", "AdamW", "SGD", "RMSprop"
    add("--optim", "--optimizer", type=choice(*optimisers), metavar="NAME", help=", ".join(optimisers))
    add("--lr", type=POSITIVE, help="peak learning rate")
    add("--lr_schedule", choices=["constant", "step", "exponential", "cosine"], help="its course")
    add("--lr_warmup", type=NOT_NEGATIVE, default=1.0, help="epochs of linear rise from 0; fractions count")
    add("--lr_step", type=COUNT, default=20, help="epochs between two drops of the step schedule")
    add("--lr_gamma", type=FRACTION, default=0.5, help="factor of the step and exponential schedules")
    add("--lr_final", type=PROBABILITY, default=0.0, help="where the cosine ends, as a fraction of --lr")
    add("--beta1", type=number(float, 0, 0.999999), default=0.9, help="momentum, in every optimiser but RMSprop")
    add("--beta2", type=number(float, 0, 0.999999), default=0.95, help="memory of the squared gradient (Adam, AdamW, RMSprop)")
    add("--weight_decay", type=NOT_NEGATIVE, help="weight decay (default: 0.01 for AdamW, 0 for the others)")
    add("--grad_clip", type=POSITIVE, default=1.0, help="largest norm of the gradient")
    add("--bad_steps", type=COUNT, default=10, help="the run stops after so many steps in a row whose numbers are not finite")
    add("--ema", type=number(float, 0, 1), help="decay per step of the averaged weights that are tested")

    add = parser.add_argument_group("teacher forcing").add_argument
    add("--tfr", type=PROBABILITY, default=1.0, help="ratio at the start: probability of feeding the true frame back")
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
    add("--N_dim", type=COUNT, default=12, help="channels of the latent z")
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
