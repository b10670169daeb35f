"""What sets the kinds of video apart for the scripts: their data, the sizes of their models, what a test writes."""
import argparse
from collections.abc import Callable
from typing import NamedTuple

from dance_data import DanceClips, DanceSplit, load_test_sequences, load_validation_sequences
from dataloader import Clips, Sequence, find_dataset
from devices import find_device
from modules import VideoModel
from modules.cvae import PoseCVAE
from modules.svg import SVG
from poses import transfer
from poses.detector import DETECTOR_SIDE, Detector
from presets import DEMO, LEAST_EPOCH
from results import write_course_files
from robot_data import RobotClips, RobotSplit, fixed_windows
from submission import find_truth
from utils import UserError

Flags = argparse.Namespace  # of Trainer.py; those of Tester.py over those that the checkpoint was trained with


class Family(NamedTuple):
    """One kind of video. Every function raises UserError for data that do not fit."""

    model: type[VideoModel]
    validation: str  # the split that is rolled out after an epoch
    clips: Callable[[Flags], Clips]
    sequences: Callable[[Flags, str], list[Sequence]]  # of a split
    model_config: Callable[[Flags, Clips, dict | None], dict]  # for build_model; of a resumed run that of its checkpoint too
    tester_defaults: dict  # of the flags of Tester.py that depend on the kind
    tester_only: tuple[str, ...]  # flags of Tester.py that mean nothing for another kind
    hand_in: Callable[..., dict] | None  # writes what the exercise hands in; returns what scores.json shall hold of it


def size_flags(flags: Flags) -> dict:
    """The flags that say how frames are read."""
    return {"height": flags.frame_H, "width": flags.frame_W, "cache_dir": flags.cache_dir}


def skips_bad(flags: Flags, split: str) -> bool | None:
    """Whether frames that cannot be used are left out; None where that cannot be asked for: test sequences must be whole."""
    return None if split == "test" else getattr(flags, "skip_bad", None)


def dance_split(flags: Flags, split: str) -> DanceSplit:
    """train/ or val/."""
    return DanceSplit(flags.DR, split, **size_flags(flags), skip_bad=skips_bad(flags, split))


def dance_clips(flags: Flags) -> DanceClips:
    """The clips of train/."""
    split = dance_split(flags, "train")
    split.tell_losses(flags.train_vi_len)
    clips = DanceClips(split, length=flags.train_vi_len, partial=flags.partial, seed=flags.seed, reference=flags.reference,
                       flip=flags.flip, shift=flags.shift, margin=flags.pose_window // 2)  # fmt: skip
    if flags.epoch_size is None:
        clips.clips = max(len(clips), LEAST_EPOCH * flags.batch_size)
    elif flags.epoch_size:
        clips.clips = flags.epoch_size * flags.batch_size
    return clips


def dance_sequences(flags: Flags, split: str) -> list[Sequence]:
    """The sequences of test/ with all truth that can be found, or train/ or val/ cut into sequences of --val_vi_len."""
    if split != "test":
        frames = dance_split(flags, split)
        frames.tell_losses()
        return load_validation_sequences(frames, length=flags.val_vi_len)
    sequences = load_test_sequences(flags.DR, **size_flags(flags))
    lengths = {sequence.name: len(sequence.conditions) for sequence in sequences}
    truth = find_truth(find_dataset(flags.DR, "test"), flags.gt, lengths, height=flags.frame_H, width=flags.frame_W)
    return [sequence._replace(truth=truth.get(sequence.name, sequence.truth)) for sequence in sequences]


def directed(flags: Flags, sequences: list[Sequence]) -> list[Sequence]:
    """The dance's sequences with another first frame (--first_frame), or the poses of another video (--pose_from) as the only
    sequence. Nobody knows their truth."""
    size = {"height": flags.frame_H, "width": flags.frame_W}
    given = transfer.first_frame(flags.first_frame, **size) if flags.first_frame else None
    if not flags.pose_from:
        return [sequence._replace(given=given, truth=None) for sequence in sequences]

    def detector() -> Detector:
        return Detector(flags.pose_weights, flag="--pose_weights", device=find_device(flags.device), side=DETECTOR_SIDE)

    like = None
    if flags.pose_fit == "person":
        known = dance_split(flags, "train").images[1]
        like = known[:: max(1, len(known) // transfer.SAMPLES)].transpose(0, 2, 3, 1)
    poses = transfer.pose_images(flags.pose_from, like=like, **size, detector=detector)
    return [Sequence(flags.pose_from.stem, sequences[0].given if given is None else given, poses, None)]


def condition_scale(clips: Clips, earlier: dict | None) -> dict:
    """Mean and scale of the conditions, which the data decide; a resumed run keeps those that it began with."""
    mean, scale = clips.condition_scale()
    if earlier and len(earlier.get("condition_mean", [])) == len(mean):
        mean, scale = earlier["condition_mean"], earlier["condition_scale"]
    return {"condition_mean": mean, "condition_scale": scale}


def dance_config(flags: Flags, clips: Clips, earlier: dict | None) -> dict:
    """PoseCVAE's sizes, and the scale of the pose images."""
    return {"family": "pose_cvae", "frame_dim": flags.F_dim, "label_dim": flags.L_dim, "latent_dim": flags.N_dim,
            "fused_dim": flags.D_out_dim, "pose_window": flags.pose_window} | condition_scale(clips, earlier)  # fmt: skip


def robot_split(flags: Flags, split: str, *, shortest: int) -> RobotSplit:
    """A split whose sequences have at least `shortest` frames."""
    return RobotSplit(flags.DR, split, shortest=shortest, **size_flags(flags), skip_bad=skips_bad(flags, split))


def robot_clips(flags: Flags) -> RobotClips:
    """Windows of the frames that are given and those that are predicted, from train/."""
    length = flags.n_past + flags.n_future
    split = robot_split(flags, "train", shortest=length)
    split.tell_losses(length)
    return RobotClips(split, length=length, partial=flags.partial, seed=flags.seed, shift=flags.shift,
                      clips=flags.epoch_size * flags.batch_size)  # fmt: skip


def robot_sequences(flags: Flags, split: str) -> list[Sequence]:
    """Fixed windows of --n_eval frames of any split."""
    length = flags.val_vi_len
    if length <= flags.n_past:
        raise UserError(f"--n_eval {length}: expected more frames than the {flags.n_past} that are given")
    frames = robot_split(flags, split, shortest=length)
    frames.tell_losses()
    return fixed_windows(frames, context=flags.n_past, length=length, most=flags.windows)


def robot_config(flags: Flags, clips: RobotClips, earlier: dict | None) -> dict:
    """SVG's sizes, and the scale of the condition values."""
    names = ("cond_shift", "width", "g_dim", "z_dim", "rnn_size", "predictor_rnn_layers", "posterior_rnn_layers",
             "prior_rnn_layers", "norm", "compose", "last_frame_skip")  # fmt: skip
    return {"family": "svg", "image_size": flags.frame_H, "context": flags.n_past, "learned_prior": flags.model == "svg_lp",
            } | condition_scale(clips, earlier) | {name: getattr(flags, name) for name in names}  # fmt: skip


def read_data(flags: Flags) -> tuple[list[Sequence], Clips | None]:
    """The validation sequences, and the training clips where there is something to train. Raises UserError with all that is
    wrong with either."""
    if not flags.DR.is_dir():
        raise UserError(f"--DR {flags.DR}: no such folder; expected a data set. No data yet? {DEMO[flags.model]} renders some")
    family, readers = FAMILIES[flags.model], []
    readers.append(lambda: family.sequences(flags, family.validation))
    readers.append(lambda: None if flags.test else family.clips(flags))
    found, errors = [], []
    for read in readers:
        try:
            found.append(read())
        except UserError as error:
            errors.append(error)
            if not error.problems:  # no list that another could be added to
                break
    if errors:
        first, *others = errors
        raise UserError(first.args[0], [*first.problems, *(line for error in others for line in [*error.args, *error.problems])])
    return tuple(found)


DANCE = Family(PoseCVAE, "val", dance_clips, dance_sequences, dance_config,
               {"amp": "auto", "fps": 20.0, "show": None, "pose_fit": "person"},
               ("gt", "pose_from", "first_frame", "pose_fit", "pose_weights"), write_course_files)  # fmt: skip
ROBOT = Family(SVG, "validate", robot_clips, robot_sequences, robot_config,
               {"amp": "none", "fps": 4.0, "show": 8}, ("windows",), None)  # fmt: skip
# By the name for --model, and by the name that a checkpoint has for the family of its model.
FAMILIES = {"pose_cvae": DANCE, "svg_fp": ROBOT, "svg_lp": ROBOT, "svg": ROBOT}
