"""Presets: default values of Trainer.py's flags for each model.

default is the best recipe found, course the exercise's own, quick trains in minutes on a CPU. docs/results.md lists what
was tried. A preset's value replaces the default in training/flags.py.
"""

from typing import Any

LEAST_EPOCH = 200  # batches; with fewer, one pass over a short video would take less time than its validation

DANCE: dict[str, Any] = {
    "frame_H": 32, "frame_W": 64, "val_vi_len": 630, "num_epoch": 70, "batch_size": 16, "train_vi_len": 4, "optim": "AdamW",
    "lr": 0.003, "lr_schedule": "cosine", "ema": 0.995, "shift": 2, "reference": "video", "pose_window": 3, "L_dim": 64,
    "distortion": "log_mse", "kl_anneal_type": "Cyclical", "kl_anneal_cycle": 10, "kl_anneal_ratio": 1.0, "amp": "auto",
    "per_save": 10,
}  # fmt: skip
DANCE_COURSE = DANCE | {
    "epoch_size": 0, "batch_size": 2, "train_vi_len": 16, "optim": "Adam", "lr": 0.001,
    "lr_schedule": "constant", "ema": 0.0, "shift": 0, "reference": "clip", "pose_window": 1, "L_dim": 32, "tfr_sde": 10,
    "tfr_d_step": 0.1, "per_save": 3, "distortion": "mse",
    "tfr_coin": "epoch", "lr_warmup": 0.0, "beta2": 0.999,
}  # fmt: skip
DANCE_QUICK = DANCE | {"num_epoch": 11, "epoch_size": 200, "kl_anneal_cycle": 3}
ROBOT: dict[str, Any] = {
    "frame_H": 64, "frame_W": 64, "val_vi_len": None, "num_epoch": 300, "epoch_size": 600, "batch_size": 12, "optim": "Adam",
    "lr": 0.002, "lr_schedule": "cosine", "ema": 0.995, "shift": 0, "tfr_sde": 0, "tfr_d_step": 0.0, "width": 64, "norm": "group",
    "compose": "last", "distortion": "mse", "kl_anneal_type": "Monotonic", "kl_anneal_cycle": 3, "kl_anneal_ratio": 0.5,
    "amp": "none",
}  # fmt: skip
ROBOT_COURSE = ROBOT | {
    "lr_schedule": "constant", "lr_warmup": 0.0, "beta2": 0.999, "ema": 0.0, "norm": "batch", "compose": "none",
}  # fmt: skip
ROBOT_QUICK = ROBOT | {
    "num_epoch": 10, "epoch_size": 150, "batch_size": 4, "width": 8, "lr_schedule": "constant", "tfr": 0.5,
    "distortion": "log_mse",
}  # fmt: skip
# By the values of --preset and --model. TASK_FLAGS in training/flags.py and TASKS in tasks.py have the same models.
PRESETS: dict[str, dict[str, dict]] = {
    "default": {"pose_cvae": DANCE, "svg_fp": ROBOT, "svg_lp": ROBOT},
    "course": {"pose_cvae": DANCE_COURSE, "svg_fp": ROBOT_COURSE, "svg_lp": ROBOT_COURSE},
    "quick": {"pose_cvae": DANCE_QUICK, "svg_fp": ROBOT_QUICK, "svg_lp": ROBOT_QUICK},
}
MODELS = tuple(PRESETS["default"])
