"""What differs from task to task: data, model config, what a test reads and writes, what reports show."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.clips import Clips, Sequence
from dataloader import Flags, dance_clips, dance_sequences, dance_split, robot_clips, robot_sequences
from evaluation.results import write_submission_files
from evaluation.scores import Result
from modules.base import VideoModel
from modules.pose_cvae import PoseCVAE
from modules.svg import SVG
from poses import transfer
from poses.detector import DETECTOR_SIDE, Detector
from runtime.devices import find_device
from training.flags import task_flags
from utils import UserError


def keep_inputs(_flags: Flags, sequences: list[Sequence]) -> list[Sequence]:
    """Return the sequences as they are, for a task without flags for other inputs."""
    return sequences


def no_submission(_folder: Path, _results: list[Result], _fps: float) -> dict:
    """Write no files, for a task without a submission in a fixed format."""
    return {}


class Task(NamedTuple):
    """One kind of video. Its functions raise UserError for data that do not fit."""

    model: type[VideoModel]
    validation: str  # the split that is rolled out after an epoch
    clips: Callable[[Flags], Clips]  # of the training split
    sequences: Callable[[Flags, str], list[Sequence]]  # of a split
    model_config: Callable[[Flags, Clips, dict | None], dict]  # for build_model; a continued run passes its checkpoint's config
    tester_defaults: dict[str, Any]  # of the flags of Tester.py that depend on the task: amp, fps and show
    tester_only: tuple[str, ...] = ()  # flags of Tester.py that not every task has
    replace_inputs: Callable[[Flags, list[Sequence]], list[Sequence]] = keep_inputs  # by those that Tester's flags name
    # Takes folder, results and fps; returns an addition to scores.json.
    write_submission: Callable[[Path, list[Result], float], dict] = no_submission
    condition_images: str | None = None  # what the conditions show, "pose", if they are images
    scored_by_channel: bool = True  # whether reports show the PSNR by channel, the measure of BAIR publications


def replace_dance_inputs(flags: Flags, sequences: list[Sequence]) -> list[Sequence]:
    """Return the sequences with the first frame of --first_frame, or one sequence with the poses of --pose_from.

    They have no ground truth then. Without these flags, the sequences are returned as they are.
    """
    if flags.pose_from is None and flags.first_frame is None:
        return sequences
    first_frame = sequences[0].context_frames
    if flags.first_frame is not None:
        first_frame = transfer.first_frame(flags.first_frame, height=flags.frame_H, width=flags.frame_W)
    if flags.pose_from is None:
        return [sequence._replace(context_frames=first_frame, ground_truth=None) for sequence in sequences]
    poses = transfer.pose_images(
        flags.pose_from,
        like=training_poses(flags) if flags.pose_fit == "person" else None,
        height=flags.frame_H,
        width=flags.frame_W,
        allow_truncated=bool(flags.allow_truncated),
        detector=lambda: Detector.load(
            flags.pose_weights, flag="--pose_weights", device=find_device(flags.device), side=DETECTOR_SIDE
        ),
    )
    return [Sequence(flags.pose_from.stem, first_frame, poses, None)]


def training_poses(flags: Flags) -> np.ndarray:
    """Return about transfer.SAMPLES pose images of the training split, (N, H, W, 3) uint8."""
    poses = dance_split(flags, "train").images[1]
    return poses[:: max(1, len(poses) // transfer.SAMPLES)].transpose(0, 2, 3, 1)


def write_dance_submission(folder: Path, results: list[Result], fps: float) -> dict:
    """Write the files to submit for Lab 4, and return the grader PSNR."""
    return write_submission_files(folder, results, fps=fps)


def condition_scale(clips: Clips, earlier: dict | None) -> dict:
    """Return mean and scale of the conditions in the training data; a continued run keeps those of its checkpoint's config."""
    mean, scale = clips.condition_scale()
    if earlier and len(earlier.get("condition_mean", [])) == len(mean):
        mean, scale = earlier["condition_mean"], earlier["condition_scale"]
    return {"condition_mean": mean, "condition_scale": scale}


def pose_cvae_config(flags: Flags, clips: Clips, earlier: dict | None) -> dict:
    """Return the config of PoseCVAE: its sizes, and the scale of the pose images."""
    sizes = {
        "family": "pose_cvae",
        "frame_dim": flags.F_dim,
        "label_dim": flags.L_dim,
        "latent_dim": flags.N_dim,
        "fused_dim": flags.D_out_dim,
        "pose_window": flags.pose_window,
    }
    return sizes | condition_scale(clips, earlier)


def svg_config(flags: Flags, clips: Clips, earlier: dict | None) -> dict:
    """Return the config of SVG: its sizes, and the scale of the condition values."""
    config = {
        "family": "svg",
        "image_size": flags.frame_H,
        "context": flags.n_past,
        "learned_prior": flags.model == "svg_lp",
    } | condition_scale(clips, earlier)
    for name in ("cond_shift", "width", "g_dim", "z_dim", "rnn_size", "predictor_rnn_layers", "posterior_rnn_layers",
                 "prior_rnn_layers", "norm", "compose", "last_frame_skip"):  # fmt: skip
        config[name] = getattr(flags, name)
    return config


def task_of(checkpoint: dict, path: Path) -> Task:
    """Return the task that a checkpoint was trained for; `path` is for messages. Raises UserError for an unknown one."""
    model = str(checkpoint["flags"].get("model"))
    if model not in TASKS:
        raise UserError(f"{path}: expected a checkpoint of --model {' or '.join(TASKS)}, got {model[:40]!r}")
    return TASKS[model]


def read_data(flags: Flags) -> tuple[list[Sequence], Clips | None]:
    """Return the validation sequences, and the training clips unless --test is set.

    Raises UserError with the errors in both.
    """
    if not flags.DR.is_dir():
        raise UserError(
            f"--DR {flags.DR}: no such folder; expected a data set. No data yet? {task_flags(flags.model).demo} renders some"
        )
    task = TASKS[flags.model]
    sequences: list[Sequence] = []
    clips, errors = None, []
    try:
        sequences = task.sequences(flags, task.validation)
    except UserError as error:
        if not error.problems:  # no list that the errors of the training data could be added to
            raise
        errors.append(error)
    if not flags.test:
        try:
            clips = task.clips(flags)
        except UserError as error:
            errors.append(error)
    if errors:
        raise joined(errors)
    return sequences, clips


def joined(errors: list[UserError]) -> UserError:
    """Return one error with the lines of all."""
    first, *others = errors
    problems = [*first.problems]
    for error in others:
        problems += [*error.args, *error.problems]
    return UserError(first.args[0], problems)


DANCE = Task(
    model=PoseCVAE,
    validation="val",
    clips=dance_clips,
    sequences=dance_sequences,
    model_config=pose_cvae_config,
    tester_defaults={"amp": "auto", "fps": 20.0, "show": None, "pose_fit": "person"},
    tester_only=("gt", "pose_from", "first_frame", "pose_fit", "pose_weights", "allow_truncated"),
    replace_inputs=replace_dance_inputs,
    write_submission=write_dance_submission,
    condition_images="pose",
    scored_by_channel=False,
)
ROBOT = Task(
    model=SVG,
    validation="validate",
    clips=robot_clips,
    sequences=robot_sequences,
    model_config=svg_config,
    tester_defaults={"amp": "none", "fps": 4.0, "show": 8},
    tester_only=("windows",),
)
TASKS = {"pose_cvae": DANCE, "svg_fp": ROBOT, "svg_lp": ROBOT}  # by the value of --model
