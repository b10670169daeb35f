"""The flags of Trainer.py: names and meanings of the course, types that check, one default each."""
import argparse
import sys
from pathlib import Path


class Parser(argparse.ArgumentParser):
    """Shows every default in --help and refuses a bad flag in one line."""

    def __init__(self, description: str):
        super().__init__(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter, allow_abbrev=False)

    def error(self, message: str):
        print(f"error: {message} (--help lists all flags)", file=sys.stderr)
        sys.exit(2)


def number(kind: type, low: float, high: float = float("inf"), *, above: bool = False):
    """An argparse type: an int or float within [low, high], or (low, high] where `above`."""
    expected = f"{'an integer' if kind is int else 'a number'} {'above' if above else 'of at least'} {low}"
    expected += f" and at most {high}" if high != float("inf") else ""

    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} found, {expected} expected") from None
        if not (low < value if above else low <= value) or not value <= high or value == float("inf"):
            raise argparse.ArgumentTypeError(f"{text} found, {expected} expected")
        return value

    return parse


COUNT = number(int, 1)
INDEX = number(int, 0)
PROBABILITY = number(float, 0, 1)
FRACTION = number(float, 0, 1, above=True)
POSITIVE = number(float, 0, above=True)
NOT_NEGATIVE = number(float, 0)


def add_device_flags(group: argparse._ArgumentGroup) -> None:
    """The flags about the machine, the same for Trainer and Tester."""
    group.add_argument("--device", default="auto", help="auto takes the first of cuda, mps, cpu that is there")
    group.add_argument("--amp", default="none", choices=["none", "bfloat16", "float16"], help="autocast precision; loss and KL stay float32")
    group.add_argument("--cache_dir", type=Path, help="folder of the decoded frames (default: DR/.frame_cache, else the user's cache)")


def trainer_parser() -> Parser:
    """All flags of Trainer.py, in groups."""
    parser = Parser("Train the pose-conditioned VAE that predicts a dance video frame by frame.")

    run = parser.add_argument_group("run")
    run.add_argument("--DR", type=Path, required=True, metavar="FOLDER", help="data set in the LAB4_Dataset layout")
    run.add_argument("--save_root", type=Path, required=True, metavar="FOLDER", help="where checkpoints, metrics and plots go")
    run.add_argument("--num_epoch", type=COUNT, default=70, help="epochs of the whole run")
    run.add_argument("--ckpt_path", type=Path, help="checkpoint or run folder to resume from")
    run.add_argument("--test", action="store_true", help="only validate --ckpt_path, train nothing")
    run.add_argument("--per_save", type=COUNT, default=3, help="epochs between two epoch=N.ckpt")
    run.add_argument("--val_every", type=COUNT, default=1, help="epochs between two validations; the last epoch is always validated")
    run.add_argument("--store_visualization", action="store_true", help="write a GIF of the validation with every epoch=N.ckpt")
    run.add_argument("--seed", type=INDEX, default=1, help="seed of everything drawn at random")
    run.add_argument("--use_wandb", action="store_true", help="also log to Weights & Biases (package wandb)")
    run.add_argument("--use_tensorboard", action="store_true", help="also log for TensorBoard (package tensorboard)")

    machine = parser.add_argument_group("machine")
    add_device_flags(machine)
    machine.add_argument("--num_workers", type=INDEX, default=0, help="loader processes; 0 suffices once the frame cache stands")

    data = parser.add_argument_group("data")
    data.add_argument("--frame_H", type=COUNT, default=32, help="frame height in pixels, a multiple of 8")
    data.add_argument("--frame_W", type=COUNT, default=64, help="frame width in pixels, a multiple of 8")
    data.add_argument("--train_vi_len", type=number(int, 2), default=12, help="frames of a training clip")
    data.add_argument("--val_vi_len", type=number(int, 2), default=630, help="frames of a validation sequence")
    data.add_argument("--partial", type=FRACTION, default=1.0, help="fraction of the training frames to use")
    data.add_argument("--fast_train", action="store_true", help="begin with a part of the clips")
    data.add_argument("--fast_partial", type=FRACTION, default=0.4, help="that part, as a fraction")
    data.add_argument("--fast_train_epoch", type=INDEX, default=5, help="epochs it lasts")
    data.add_argument("--reference", default="video", choices=["video", "clip"],
                      help="known frame in training: any frame of the same unbroken video, or the clip's first")  # fmt: skip
    data.add_argument("--flip", type=PROBABILITY, default=0.0, help="probability that a clip is mirrored")
    data.add_argument("--shift", type=INDEX, default=2, help="a clip is moved by up to this many pixels each way")

    model = parser.add_argument_group("model")
    model.add_argument("--F_dim", type=COUNT, default=128, help="channels of the frame features")
    model.add_argument("--L_dim", type=COUNT, default=64, help="channels of the label (pose) features")
    model.add_argument("--N_dim", type=COUNT, default=12, help="channels of the latent z")
    model.add_argument("--D_out_dim", type=COUNT, default=192, help="channels of the decoder fusion's output")

    optimisation = parser.add_argument_group("optimisation")
    optimisation.add_argument("--batch_size", type=COUNT, default=4, help="clips per batch")
    optimisation.add_argument("--accumulate", type=COUNT, default=1, help="batches per optimiser step")
    optimisation.add_argument("--optim", default="AdamW", choices=["Adam", "AdamW", "SGD", "RMSprop"], help="optimiser")
    optimisation.add_argument("--lr", type=POSITIVE, default=0.002, help="peak learning rate")
    optimisation.add_argument("--lr_schedule", default="cosine", choices=["constant", "step", "exponential", "cosine"], help="its course")
    optimisation.add_argument("--lr_warmup", type=NOT_NEGATIVE, default=0.2, help="epochs of linear rise from 0; fractions count")
    optimisation.add_argument("--lr_step", type=COUNT, default=20, help="epochs between two drops of the step schedule")
    optimisation.add_argument("--lr_gamma", type=FRACTION, default=0.5, help="factor of the step and exponential schedules")
    optimisation.add_argument("--lr_final", type=PROBABILITY, default=0.0, help="where the cosine ends, as a fraction of --lr")
    optimisation.add_argument("--weight_decay", type=NOT_NEGATIVE, default=0.01, help="weight decay")
    optimisation.add_argument("--grad_clip", type=POSITIVE, default=1.0, help="largest norm of the gradient")
    optimisation.add_argument("--ema", type=number(float, 0, 1), default=0.995,
                              help="decay per step of the averaged weights that are validated and tested; 0 averages nothing")  # fmt: skip

    forcing = parser.add_argument_group("teacher forcing")
    forcing.add_argument("--tfr", type=PROBABILITY, default=1.0, help="ratio at the start: probability of feeding the true frame back")
    forcing.add_argument("--tfr_sde", type=INDEX, default=10, help="first epoch (from 0) with a lower ratio")
    forcing.add_argument("--tfr_d_step", type=PROBABILITY, default=0.1, help="how much the ratio falls each time")
    forcing.add_argument("--tfr_floor", type=PROBABILITY, default=0.0, help="the ratio falls no lower")
    forcing.add_argument("--tfr_interval", type=COUNT, default=1, help="epochs between two falls")
    forcing.add_argument("--tfr_coin", default="batch", choices=["batch", "epoch"], help="how often the coin is tossed")
    forcing.add_argument("--feedback_noise", type=NOT_NEGATIVE, default=0.0, help="standard deviation of noise on the fed-back frame, pixels in [0, 1]")

    kl = parser.add_argument_group("KL annealing")
    kl.add_argument("--kl_anneal_type", default="Cyclical", choices=["Cyclical", "Monotonic", "None"], help="course of beta over the run")
    kl.add_argument("--kl_anneal_cycle", type=COUNT, default=10, help="number of cycles in the run")
    kl.add_argument("--kl_anneal_ratio", type=FRACTION, default=1.0, help="fraction of a cycle in which beta rises")
    kl.add_argument("--kl_weight", type=NOT_NEGATIVE, default=1e-6, help="weight of a nat of KL against the mean squared error per pixel, at beta 1")
    return parser
