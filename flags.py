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


def add_device_flags(parser: Parser):
    """The flags about the machine, the same for Trainer and Tester; returns the group's add_argument for more of them."""
    add = parser.add_argument_group("machine").add_argument
    add("--device", default="auto", help="auto takes the first of cuda, mps, cpu that is there")
    add("--amp", default="none", choices=["none", "bfloat16", "float16"], help="autocast precision; loss and KL stay float32")
    add("--cache_dir", type=Path, help="folder of the decoded frames (default: DR/.frame_cache, else the user's cache)")
    return add


def trainer_parser() -> Parser:
    """All flags of Trainer.py, in groups."""
    parser = Parser("Train the pose-conditioned VAE that predicts a dance video frame by frame.")

    add = parser.add_argument_group("run").add_argument
    add("--DR", type=Path, required=True, metavar="FOLDER", help="data set in the LAB4_Dataset layout")
    add("--save_root", type=Path, required=True, metavar="FOLDER", help="where checkpoints, metrics and plots go")
    add("--num_epoch", type=COUNT, default=70, help="epochs of the whole run")
    add("--ckpt_path", type=Path, help="checkpoint or run folder to resume from")
    add("--test", action="store_true", help="only validate --ckpt_path, train nothing")
    add("--per_save", type=COUNT, default=3, help="epochs between two epoch=N.ckpt")
    add("--val_every", type=COUNT, default=1, help="epochs between two validations; the last epoch is always validated")
    add("--store_visualization", action="store_true", help="write a GIF of the validation beside each validated epoch=N.ckpt")
    add("--seed", type=INDEX, default=1, help="seed of everything drawn at random")
    add("--use_wandb", action="store_true", help="also log to Weights & Biases (package wandb)")
    add("--use_tensorboard", action="store_true", help="also log for TensorBoard (package tensorboard)")

    add = add_device_flags(parser)
    add("--num_workers", type=INDEX, default=0, help="loader processes; 0 suffices once the frame cache stands")

    add = parser.add_argument_group("data").add_argument
    add("--frame_H", type=COUNT, default=32, help="frame height in pixels, a multiple of 8")
    add("--frame_W", type=COUNT, default=64, help="frame width in pixels, a multiple of 8")
    add("--train_vi_len", type=number(int, 2), default=12, help="frames of a training clip")
    add("--val_vi_len", type=number(int, 2), default=630, help="frames of a validation sequence")
    add("--partial", type=FRACTION, default=1.0, help="fraction of the training frames to use")
    add("--fast_train", action="store_true", help="begin with a part of the clips")
    add("--fast_partial", type=FRACTION, default=0.4, help="that part, as a fraction")
    add("--fast_train_epoch", type=INDEX, default=5, help="epochs it lasts")
    add("--reference", default="video", choices=["video", "clip"], help="known frame: any of the video, or the clip's first")
    add("--flip", type=PROBABILITY, default=0.0, help="probability that a clip is mirrored")
    add("--shift", type=INDEX, default=2, help="a clip is moved by up to this many pixels each way")

    add = parser.add_argument_group("model").add_argument
    add("--F_dim", type=number(int, 4), default=128, help="channels of the frame features")
    add("--L_dim", type=number(int, 4), default=64, help="channels of the label (pose) features")
    add("--N_dim", type=COUNT, default=12, help="channels of the latent z")
    add("--D_out_dim", type=number(int, 3), default=192, help="channels of the decoder fusion's output")

    add = parser.add_argument_group("optimisation").add_argument
    add("--batch_size", type=COUNT, default=4, help="clips per batch")
    add("--accumulate", type=COUNT, default=1, help="batches per optimiser step")
    add("--optim", default="AdamW", choices=["Adam", "AdamW", "SGD", "RMSprop"], help="optimiser")
    add("--lr", type=POSITIVE, default=0.002, help="peak learning rate")
    add("--lr_schedule", default="cosine", choices=["constant", "step", "exponential", "cosine"], help="its course")
    add("--lr_warmup", type=NOT_NEGATIVE, default=1.0, help="epochs of linear rise from 0; fractions count")
    add("--lr_step", type=COUNT, default=20, help="epochs between two drops of the step schedule")
    add("--lr_gamma", type=FRACTION, default=0.5, help="factor of the step and exponential schedules")
    add("--lr_final", type=PROBABILITY, default=0.0, help="where the cosine ends, as a fraction of --lr")
    add("--beta1", type=number(float, 0, 0.999999), default=0.9, help="momentum, in every optimiser but RMSprop")
    add("--beta2", type=number(float, 0, 0.999999), default=0.95, help="memory of the squared gradient (Adam, AdamW, RMSprop)")
    add("--weight_decay", type=NOT_NEGATIVE, help="weight decay (default: 0.01 for AdamW, 0 for the others)")
    add("--grad_clip", type=POSITIVE, default=1.0, help="largest norm of the gradient")
    add("--ema", type=number(float, 0, 1), default=0.995, help="decay per step of the averaged weights that are tested")

    add = parser.add_argument_group("teacher forcing").add_argument
    add("--tfr", type=PROBABILITY, default=1.0, help="ratio at the start: probability of feeding the true frame back")
    add("--tfr_sde", type=INDEX, default=10, help="first epoch (from 0) with a lower ratio")
    add("--tfr_d_step", type=PROBABILITY, default=0.1, help="how much the ratio falls each time")
    add("--tfr_floor", type=PROBABILITY, default=0.0, help="the ratio falls no lower")
    add("--tfr_interval", type=COUNT, default=1, help="epochs between two falls")
    add("--tfr_coin", default="batch", choices=["batch", "epoch"], help="how often the coin is tossed")
    add("--feedback_noise", type=NOT_NEGATIVE, default=0.0, help="its standard deviation, pixels in [0, 1]")

    add = parser.add_argument_group("KL annealing").add_argument
    add("--kl_anneal_type", default="Cyclical", choices=["Cyclical", "Monotonic", "None"], help="course of beta over the run")
    add("--kl_anneal_cycle", type=COUNT, default=10, help="number of cycles in the run")
    add("--kl_anneal_ratio", type=FRACTION, default=1.0, help="fraction of a cycle in which beta rises")
    add("--kl_weight", type=NOT_NEGATIVE, default=1e-4, help="weight of a nat against the squared error per pixel")
    return parser
