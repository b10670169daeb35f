"""quality.py, rollouts.py and ablation.py: their measures against hand-computed values, and the programs as a user runs them."""

import json
import math

import numpy as np
import pytest
import torch

from benchmarks import ablation, quality, rollouts
from data.clips import Sequence
from data.dance import DanceSplit
from tests.helpers.refusals import refused
from tests.helpers.settings import SMALL
from utils import UserError


def still(frames: int = 4, *, height: int = 32, width: int = 64) -> Sequence:
    """Return gray frames and white poses with one dark pixel at (10, 20), except in the last frame."""
    poses = torch.full((frames, 3, height, width), 255, dtype=torch.uint8)
    poses[:-1, 1, 10, 20] = 0
    ground_truth = torch.full_like(poses, 102)
    return Sequence("0", ground_truth[:1], poses, ground_truth)


def test_the_neighborhood_of_a_single_skeleton_pixel_is_a_square():
    mask = quality.skeleton_neighborhood(still().conditions / 255)
    assert mask.shape == (4, 1, 32, 64) and mask[0].sum() == 25 and mask[0, 0, 8:13, 18:23].all() and not mask[-1].any()


def test_foreground_psnr_counts_pixels_near_the_skeleton_only():
    sequence = still()
    video = sequence.ground_truth / 255
    video[:, :, 20:] = 1.0
    video[-1] = 0.0
    video[1:3, :, 8:13, 18:23] += 0.1
    assert quality.foreground_psnr(video, sequence) == pytest.approx(20.0, abs=1e-3)
    assert quality.foreground_psnr(sequence.ground_truth / 255, sequence) == 100
    assert math.isnan(quality.foreground_psnr(video, sequence._replace(conditions=torch.zeros(4, 7))))


def test_held_out_frames_move_from_training_to_validation(rendered, tmp_path):
    size = {"height": 32, "width": 64}
    whole = DanceSplit.load(rendered, "train", **size)
    numbers = whole.numbers.tolist()
    root = quality.hold_out(rendered, range(numbers[10], numbers[15]), tmp_path / "data")
    kept, held = (DanceSplit.load(root, split, **size, cache_dir=tmp_path / "cache") for split in ("train", "val"))
    assert held.numbers.tolist() == numbers[10:15] and kept.numbers.tolist() == numbers[:10] + numbers[15:]
    assert np.array_equal(held.images, whole.images[:, 10:15])
    quality.hold_out(rendered, range(numbers[0], numbers[3]), tmp_path / "data")
    assert len(list((tmp_path / "data" / "val" / "val_img").iterdir())) == 3


def test_hold_out_does_not_touch_a_folder_that_it_did_not_make(dataset):
    """A data set in the folder of the split was once removed before it was read."""
    files = sorted(dataset.rglob("*"))
    with pytest.raises(UserError, match="expected no folder, or one made by --hold_out"):
        quality.hold_out(dataset, range(3), dataset)
    assert sorted(dataset.rglob("*")) == files
    made = quality.hold_out(dataset, range(3), dataset.parent / "held_out")
    with pytest.raises(UserError, match="expected no folder"):  # a split of itself
        quality.hold_out(made, range(3, 5), made)
    assert len(list((made / "val" / "val_img").iterdir())) == 3


def test_the_budget_determines_the_epochs(monkeypatch, tmp_path):
    """An epoch takes 10 s teacher-forced and 30 s autoregressive. Of n epochs, half take 10 s, then the ratio decays."""
    runs = []
    monkeypatch.setattr(quality.Trainer, "main", lambda argv: runs.append(argv[argv.index("--tfr") + 1]))
    monkeypatch.setattr(quality, "training_seconds", lambda folder: {"1": 10.0, "0": 30.0}[runs[-1]])
    epochs = quality.epochs_within(5, ["--DR", "."], tmp_path)
    assert runs == ["1", "0"]

    def seconds(n):
        ratios = [1.0 if epoch < n // 2 else max(0.0, 1 - (epoch - n // 2 + 1) * 10 / (3 * n)) for epoch in range(n)]
        return sum(10 * ratio + 30 * (1 - ratio) for ratio in ratios)

    assert seconds(epochs) <= 300 < seconds(epochs + 1)


def test_quality_trains_every_seed_and_prints_a_table(rendered, tmp_path, capsys):
    """--amp auto, the default, once ended a training of half an hour with a KeyError."""
    numbers = DanceSplit.load(rendered, "train", height=32, width=64).numbers
    held = f"{numbers[0]}-{numbers[11]}"
    quality.main(["--DR", str(rendered), "--save_root", str(tmp_path), "--epochs", "1", "--seeds", "1", "2", "--hold_out", held,
                  "--", *SMALL, "--amp", "auto"])  # fmt: skip
    table = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    rows = json.loads((tmp_path / "quality.json").read_text())["rows"]
    assert [row["seed"] for row in rows] == [1, 2] and rows[0]["PSNR"] != rows[1]["PSNR"] and rows[0]["copy"] == rows[1]["copy"]
    assert [len(line) for line in table] == [12] * 5 and table[2][1] == f"{rows[0]['PSNR']:.2f}"
    middle, half = (rows[0]["PSNR"] + rows[1]["PSNR"]) / 2, abs(rows[0]["PSNR"] - rows[1]["PSNR"]) / 2
    assert table[4][1] == f"{middle:.2f} ± {half:.2f}"


@pytest.mark.parametrize("flags, message", [
    (["--hold_out", "90000-90001"], "got none that exist"), (["--hold_out", "9-3"], "expected the first and the last frame number"),
    (["--minutes", "0"], "expected a number above 0"), (["--DR", "nowhere"], "no such folder"),
])  # fmt: skip
def test_quality_refuses_bad_input_in_one_line(rendered, tmp_path, capsys, flags, message):
    assert message in refused(capsys, quality.main, ["--DR", rendered, "--save_root", tmp_path, *flags, "--", *SMALL])


def test_a_long_rollout_is_scored_on_its_first_and_last_complete_pass():
    """Of three passes of four frames and two more frames, the first pass is exact and the third is off by 0.1; the rest does not count."""
    sequence = still()
    assert torch.equal(rollouts.repeat_conditions(sequence, 9).conditions, sequence.conditions[[0, 1, 2, 3, 0, 1, 2, 3, 0]])
    video = torch.cat([sequence.ground_truth / 255 + error for error in (0, 0.5, 0.1, 0.9)])[:14]
    assert rollouts.duration_row(video, sequence)[1:] == ["14", "100.00", "20.00", "-80.00", "yes"]


def test_samples_are_compared_with_the_ground_truth_and_with_each_other():
    sequence = still()
    exact = sequence.ground_truth / 255
    row = rollouts.prior_row("0", [exact + 0.1, exact + 0.01], exact + 0.1, sequence)
    # 20 and 40 dB; two values 0.09 apart have the standard deviation 0.09 / sqrt 2.
    assert row == ["0", "20.00", "30.00", "40.00", f"{20 / 2**0.5:.3f}", f"{255 * 0.09 / 2**0.5:.3f}"]


def test_rollouts_prints_both_tables(rendered, trained, capsys):
    rollouts.main(["--DR", str(rendered), "--ckpt_path", str(trained), "--samples", "2", "--frames", "20", "--device", "cpu"])
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("| 0 |") or line.startswith("| 1 |")]) == 4
    assert lines[0].startswith("| sequence | prior's mean (z_scale 0), dB") and any(
        "last complete pass" in line for line in lines
    )


@pytest.mark.parametrize("without", ablation.INPUTS)
def test_only_the_blinded_input_stops_mattering(without):
    """A change of any other input still changes the prediction."""
    from tests.helpers.settings import SMALL_POSE_CVAE

    model = ablation.Blinded(**{name: value for name, value in SMALL_POSE_CVAE.items() if name != "family"})
    model.without = without
    inputs = {"previous frame": torch.rand(1, 3, 16, 32), "pose": torch.rand(1, 9, 16, 32), "reference": torch.rand(1, 3, 16, 32),
              "z": torch.randn(1, 2, 2, 4)}  # fmt: skip

    def predict(values):
        label, from_reference = model.label_encoder(values["pose"]), model.encode_reference(values["reference"])
        inputs = model.decoder_inputs(label, values["z"], from_reference)
        return model.predict(values["previous frame"], inputs.map(lambda x: x[:, 0]))

    for name, value in inputs.items():
        same = torch.allclose(predict(inputs), predict(inputs | {name: torch.rand_like(value)}))
        assert same == (name == without)
