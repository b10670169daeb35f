"""The numbers, the plot and the video that TensorBoard and Weights & Biases receive."""

import io
import json
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

import Trainer
from data.clips import Sequence
from evaluation.image_metrics import psnr
from tasks import TASKS
from tests.helpers.refusals import refused
from tests.helpers.settings import SMALL_SVG
from training import loggers
from training.flags import parse_trainer_flags
from training.loggers import MOST_FRAMES, Preview, psnr_plot
from training.metrics_log import read_metrics
from training.run_folder import RunFolder
from visualization import plots
from visualization.videos import GAP, ZOOM


def events_of(folder):
    """Read the events of a run folder with TensorBoard's own reader."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator
    events = reader(str(folder / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    return events


def frames_of(gif: bytes) -> torch.Tensor:
    """Return the frames of a GIF, (T, 3, H, W) in [0, 1]; equal adjacent frames are merged into one."""
    pages = [np.asarray(page.convert("RGB")) for page in ImageSequence.Iterator(Image.open(io.BytesIO(gif)))]
    return torch.from_numpy(np.stack(pages)).permute(0, 3, 1, 2) / 255


def columns(video: torch.Tensor, width: int) -> list[torch.Tensor]:
    """Return the videos of a comparison, which are side by side, at their original size."""
    return [part[..., ::ZOOM, : ZOOM * width : ZOOM] for part in video.split(ZOOM * width + GAP, dim=-1)]


def test_tensorboard_shows_curve_and_video_of_a_dance(train_args, tmp_path):
    Trainer.main([*train_args, "--use_tensorboard"])
    events, rows = events_of(tmp_path / "run"), read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [(event.step, event.value) for event in events.Scalars("validation/psnr")] == [
        (row["epoch"], pytest.approx(row["val_psnr"])) for row in rows
    ]
    curves = events.Images("validation/psnr_per_frame")
    assert [image.step for image in curves] == [0, 1]
    assert Image.open(io.BytesIO(curves[0].encoded_image_string)).size == (curves[0].width, curves[0].height) == (600, 340)
    assert {tag.split("/")[0] for tag in events.Tags()["scalars"]} == {"training", "schedule", "validation", "speed"}
    videos = events.Images("validation/video")
    assert [image.step for image in videos] == [0, 1]  # the first and the last
    args, _ = parse_trainer_flags(train_args)
    (sequence,) = TASKS["pose_cvae"].sequences(args, "val")
    for image in videos:
        truth, pose, predicted = columns(frames_of(image.encoded_image_string), 64)
        assert psnr(truth, sequence.ground_truth / 255).min() > 30 and psnr(pose, sequence.conditions / 255).min() > 30
        assert psnr(predicted, sequence.ground_truth / 255)[1:].mean().item() == pytest.approx(
            rows[image.step]["val_psnr"], abs=1
        )


def test_tensorboard_shows_ground_truth_and_prediction_of_a_robot(rendered_robot, tmp_path):
    flags = [
        "--model",
        "svg_fp",
        "--DR",
        str(rendered_robot),
        "--save_root",
        str(tmp_path),
        *SMALL_SVG,
        "--niter",
        "1",
        "--use_tensorboard",
    ]
    Trainer.main([*flags, "--n_eval", "7"])
    (image,) = events_of(tmp_path).Images("validation/video")
    args, _ = parse_trainer_flags([*flags, "--n_eval", "7"])
    sequence = TASKS["svg_fp"].sequences(args, "validate")[0]
    truth, predicted = columns(frames_of(image.encoded_image_string), 64)
    assert psnr(truth, sequence.ground_truth / 255).min() > 30 and psnr(predicted[:2], sequence.context_frames / 255).min() > 30
    assert psnr(predicted, truth)[2:].max() < 25


def preview(length: int = 4) -> Preview:
    """Return a short sequence whose frames become brighter, with a prediction that is too dark."""
    truth = torch.linspace(0, 255, length).round().byte().view(length, 1, 1, 1).expand(length, 3, 16, 16)
    return Preview(truth / 510, Sequence("0", truth[:1], torch.zeros(length, 2), truth), 10.0)


def row(epoch: int, **values) -> dict:
    return {"epoch": epoch, "loss": 0.5, "val_psnr": 20.0 + epoch, "val_psnr_per_frame": [19.0 + epoch, 21.0 + epoch]} | values


def test_a_long_video_is_shown_by_its_last_frames():
    long = preview(MOST_FRAMES + 20)
    truth, predicted = columns(frames_of(long.gif()), 16)
    assert len(truth) == MOST_FRAMES and (truth[0] - 20 / 119).abs().max() < 0.02 and (predicted[0] - 10 / 119).abs().max() < 0.02


def test_the_curve_shows_an_epoch_and_the_best_earlier_one(monkeypatch):
    figures = []
    monkeypatch.setattr(plots.Figure, "savefig", lambda self, path: figures.append(self))
    psnr_plot(row(3), [row(0), row(1, val_psnr=30.0), {"epoch": 2, "loss": 0.5}])
    psnr_plot(row(0), [])
    first, second = ({line.get_label(): list(line.get_ydata()) for line in figure.axes[0].lines} for figure in figures)
    assert first == {"epoch 4, mean 23.00 dB": [22, 24], "best before, epoch 2, mean 21.00 dB": [20, 22]}
    assert second == {"epoch 1, mean 20.00 dB": [19, 21]}


def test_the_epochs_of_a_resumed_run_are_shown_once(tmp_path):
    """The run is killed after epoch 4 and resumed from a checkpoint after epoch 2. Epochs 3 and 4 come from the second file alone."""
    for first, loss in [(0, 0.5), (2, 0.25)]:
        run_folder = RunFolder(tmp_path, use_wandb=False, use_tensorboard=True)
        resumed = tmp_path / "last.ckpt" if first else None
        run_folder.begin({"log_video_every": 1, "num_epoch": 4}, first_epoch=first, resumed=resumed, in_place=bool(first))
        for epoch in range(first, 4):
            run_folder.add(row(epoch, loss=loss), {}, preview())
        run_folder.close()
    events = events_of(tmp_path)
    assert [(event.step, event.value) for event in events.Scalars("training/loss")] == [(0, 0.5), (1, 0.5), (2, 0.25), (3, 0.25)]
    assert all(
        [image.step for image in events.Images(f"validation/{name}")] == [0, 1, 2, 3] for name in ("video", "psnr_per_frame")
    )


@pytest.mark.parametrize("every, expected", [(0, []), (1, [0, 2, 4, 5]), (2, [0, 4, 5]), (10, [0, 5])])
def test_a_video_is_logged_at_the_requested_interval(tmp_path, every, expected):
    """Every second epoch and the last of six are validated. The interval counts validations, including those before a resume."""
    found = []
    for first in (0, 3):
        run_folder = RunFolder(tmp_path, use_wandb=False, use_tensorboard=False)
        run_folder.begin(
            {"log_video_every": every, "num_epoch": 6},
            first_epoch=first,
            resumed=tmp_path / "x" if first else None,
            in_place=bool(first),
        )
        for epoch in range(first, 3 if not first else 6):
            validated = epoch % 2 == 0 or epoch == 5
            run_folder.add(row(epoch) if validated else {"epoch": epoch, "loss": 0.5}, {})
            found += [epoch] if validated and "validation/video" in run_folder.images(epoch, preview()) else []
        run_folder.close()
    assert found == expected


@pytest.fixture
def wandb(monkeypatch) -> types.SimpleNamespace:
    """Return a fake wandb that records its calls."""
    fake = types.SimpleNamespace(begun=[], logged=[], ended=0, run=types.SimpleNamespace(id="abc123"))
    fake.init = lambda **settings: fake.begun.append(settings)
    fake.log = lambda values, step: fake.logged.append((step, values))
    fake.finish = lambda: setattr(fake, "ended", fake.ended + 1)
    fake.Image = lambda image: ("image", image.size)
    fake.Video = lambda file, format: ("video", format, len(frames_of(file.read())))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_wandb_has_one_step_an_epoch_and_one_run_for_a_resumed_run(tmp_path, wandb):
    for first, in_place in [(0, False), (1, True), (0, False)]:
        run_folder = RunFolder(tmp_path, use_wandb=True, use_tensorboard=False)
        run_folder.begin(
            {"num_epoch": 2}, first_epoch=first, resumed=tmp_path / "last.ckpt" if in_place else None, in_place=in_place
        )
        run_folder.add(row(first), {"seconds": 1.5}, preview())
        run_folder.close()
    assert [{name: again[name] for name in ("id", "resume") if name in again} for again in wandb.begun] == [
        {},
        {"id": "abc123", "resume": "allow"},
        {},
    ]
    assert {settings["project"] for settings in wandb.begun} == {"nextframe"}
    assert wandb.begun[0]["config"] == {"num_epoch": 2} and [step for step, _ in wandb.logged] == [0, 1, 0] and wandb.ended == 3
    assert wandb.logged[1][1] == {"training/loss": 0.5, "validation/psnr": 21.0, "speed/seconds": 1.5,
                                  "validation/psnr_per_frame": ("image", (600, 340)), "validation/video": ("video", "gif", 4)}  # fmt: skip


@pytest.mark.parametrize("content", ["", "[]", "no JSON"])
def test_a_config_that_cannot_be_read_is_ignored(tmp_path, wandb, content):
    (tmp_path / "config.json").write_text(content)
    run_folder = RunFolder(tmp_path, use_wandb=True, use_tensorboard=False)
    run_folder.begin({}, resumed=tmp_path / "last.ckpt", in_place=True)
    run_folder.close()
    assert "id" not in wandb.begun[0] and json.loads((tmp_path / "config.json").read_text())["wandb"] == "abc123"


@pytest.mark.parametrize("broken", ["log", "Video", "finish", "gif"])
def test_an_extra_log_that_fails_does_not_end_the_training(tmp_path, wandb, capsys, monkeypatch, broken):
    def fail(*_, **__):
        raise RuntimeError("no network\nat all")

    if broken == "gif":
        monkeypatch.setattr(loggers.Preview, "gif", fail)
    else:
        setattr(wandb, broken, fail)
    run_folder = RunFolder(tmp_path, use_wandb=True, use_tensorboard=False)
    run_folder.begin({"num_epoch": 1})
    run_folder.add(row(0), {}, preview())
    run_folder.close()
    printed = capsys.readouterr().err
    assert (
        "no network at all" in printed
        and len(printed.strip().splitlines()) == 1
        and len(read_metrics(tmp_path / "metrics.jsonl")) == 1
    )
    if broken == "gif":  # the numbers are logged anyway
        assert "validation/psnr" in wandb.logged[0][1] and "validation/video" not in wandb.logged[0][1]


def test_a_wrong_number_of_videos_is_refused(train_args, capsys):
    assert "--log_video_every: expected an integer of at least 0, got -1" in refused(
        capsys, Trainer.main, [*train_args, "--log_video_every", "-1"]
    )
