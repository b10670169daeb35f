"""What sets the kinds of video apart for the scripts: their data, the sizes of their models, what a test writes."""

from collections.abc import Callable
from typing import NamedTuple

from data.clips import Clips, Sequence
from data.robot import RobotClips
from dataloader import Flags, dance_clips, dance_sequences, dance_split, robot_clips, robot_sequences
from evaluation.results import write_course_files
from modules.base import VideoModel
from modules.pose_cvae import PoseCVAE
from modules.svg import SVG
from poses import transfer
from poses.detector import DETECTOR_SIDE, Detector
from runtime.devices import find_device
from training.presets import DEMO
from utils import UserError


class Task(NamedTuple):
    """One kind of video. Every function raises UserError for data that do not fit."""

    model: type[VideoModel]
    validation: str  # the split that is rolled out after an epoch
    clips: Callable[[Flags], Clips]
    sequences: Callable[[Flags, str], list[Sequence]]  # of a split
    model_config: Callable[[Flags, Clips, dict | None], dict]  # for build_model; of a resumed run that of its checkpoint too
    tester_defaults: dict  # of the flags of Tester.py that depend on the kind
    tester_only: tuple[str, ...]  # flags of Tester.py that mean nothing for another kind
    hand_in: Callable[..., dict] | None  # writes what the exercise hands in; returns what scores.json shall hold of it


def directed(flags: Flags, sequences: list[Sequence]) -> list[Sequence]:
    """The dance's sequences with another first frame (--first_frame), or the poses of another video (--pose_from) as the only
    sequence. Nobody knows their truth."""
    size = {"height": flags.frame_H, "width": flags.frame_W}
    given = transfer.first_frame(flags.first_frame, **size) if flags.first_frame else None
    if not flags.pose_from:
        return [sequence._replace(context_frames=given, ground_truth=None) for sequence in sequences]

    def detector() -> Detector:
        return Detector.load(flags.pose_weights, flag="--pose_weights", device=find_device(flags.device), side=DETECTOR_SIDE)

    like = None
    if flags.pose_fit == "person":
        known = dance_split(flags, "train").images[1]
        like = known[:: max(1, len(known) // transfer.SAMPLES)].transpose(0, 2, 3, 1)
    poses = transfer.pose_images(flags.pose_from, like=like, **size, detector=detector)
    return [Sequence(flags.pose_from.stem, sequences[0].context_frames if given is None else given, poses, None)]


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
    task, readers = TASKS[flags.model], []
    readers.append(lambda: task.sequences(flags, task.validation))
    readers.append(lambda: None if flags.test else task.clips(flags))
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


DANCE = Task(PoseCVAE, "val", dance_clips, dance_sequences, dance_config,
               {"amp": "auto", "fps": 20.0, "show": None, "pose_fit": "person"},
               ("gt", "pose_from", "first_frame", "pose_fit", "pose_weights"), write_course_files)  # fmt: skip
ROBOT = Task(SVG, "validate", robot_clips, robot_sequences, robot_config,
               {"amp": "none", "fps": 4.0, "show": 8}, ("windows",), None)  # fmt: skip
# By the name for --model, and by the name that a checkpoint has for the task of its model.
TASKS = {"pose_cvae": DANCE, "svg_fp": ROBOT, "svg_lp": ROBOT, "svg": ROBOT}
