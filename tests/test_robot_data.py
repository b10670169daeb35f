"""Data in the Lab 5 layout: at any depth, with and without positions, of any length, and damaged."""

import pickle
import shutil

import numpy as np
import pytest
import torch

from data.robot import RobotClips, RobotSplit, fixed_windows
from dataloader import ClipBatches, build_loader
from tests.helpers.images import WHAT_IS_READ, write_image
from tests.helpers.runs import posix
from utils import UserError

SIZE = {"height": 32, "width": 32}


def write_sequence(folder, frames: int, *, actions: int = 4, positions: int | None = 3, first: int = 0) -> None:
    """Write a sequence in which action k of frame t is 10 t + k, and position k is 1000 + 10 t + k."""
    for i in range(frames):
        write_image(folder / f"{first + i}.png", size=(32, 32), seed=i)
    rows = 10 * np.arange(frames)[:, None]
    np.savetxt(folder / "actions.csv", rows + np.arange(actions), delimiter=",")
    if positions:
        np.savetxt(folder / "endeffector_positions.csv", rows + 1000 + np.arange(positions), delimiter=",")


@pytest.fixture
def data(tmp_path):
    """Write two sequences of 7 and 5 frames at the depth of the course's folders."""
    write_sequence(tmp_path / "data" / "train" / "traj_0_to_255.tfrecords" / "10", 7)
    write_sequence(tmp_path / "data" / "train" / "traj_0_to_255.tfrecords" / "9", 5)
    return tmp_path / "data"


def split_of(root, shortest: int = 4) -> RobotSplit:
    return RobotSplit.load(root, "train", shortest=shortest, **SIZE)


def clips_of(split, **flags) -> RobotClips:
    return RobotClips(split=split, **{"length": 4, "clips_per_epoch": 6, "partial": 1.0, "seed": 1, "shift": 0} | flags)


def test_sequences_are_in_numeric_order_with_their_conditions(data):
    """Sequence 9 comes before 10. Each frame has a row, in which positions follow the actions as in the course."""
    split = split_of(data)
    assert split.sequences == {"traj_0_to_255.tfrecords/9": range(5), "traj_0_to_255.tfrecords/10": range(5, 12)}
    assert split.images.shape == (12, 3, 32, 32) and split.conditions.dtype == np.float32
    assert split.conditions[2].tolist() == [20, 21, 22, 23, 1020, 1021, 1022]
    assert np.array_equal(split.conditions[:5], split.conditions[5:10])
    assert np.array_equal(split.images[:5], split.images[5:10]) and not np.array_equal(split.images[0], split.images[1])


@pytest.mark.parametrize("place", ["3", "a/b/c/3", "."])
def test_any_depth_of_folders_is_found(tmp_path, place):
    write_sequence(tmp_path / "train" / place, 4)
    assert [len(frames) for frames in split_of(tmp_path).sequences.values()] == [4]


def test_a_folder_name_may_contain_any_character(tmp_path):
    """str.isdigit() accepts a superscript two, but int() does not."""
    for name in ("10", "9", "²", "half ½"):
        write_sequence(tmp_path / "train" / name, 5)
    assert set(split_of(tmp_path).sequences) == {"9", "10", "²", "half ½"}


def test_folders_may_be_links(tmp_path):
    write_sequence(tmp_path / "elsewhere" / "3", 4)
    (tmp_path / "train").mkdir()
    try:
        (tmp_path / "train" / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    except OSError:
        pytest.skip("this machine cannot create links")
    assert list(split_of(tmp_path).sequences) == ["linked/3"]


def test_hidden_and_system_folders_and_files_are_no_sequences(data, capsys):
    """__MACOSX/, @eaDir/ and ._0.png below train/ once made the training refuse the data."""
    before = clips_of(split_of(data)).content_hash
    train = data / "train"
    (train / "._0.png").touch()
    (train / "Thumbs.db").touch()
    write_sequence(train / "__MACOSX" / "traj" / "0", 3)
    write_sequence(train / "traj_0_to_255.tfrecords" / "9" / "@eaDir", 2)
    (train / "traj_0_to_255.tfrecords" / "9" / "._3.png").touch()
    (train / "traj_0_to_255.tfrecords" / "9" / "notes.txt").touch()
    (train / "lost+found").mkdir()
    (train / "README.md").touch()
    assert clips_of(split_of(data)).content_hash == before
    assert capsys.readouterr().err == ""


@posix
def test_links_back_into_a_split_do_not_multiply_its_sequences(data, capsys):
    """A link to train/ within train/ gave 41 copies of each sequence, and one to the data set those of the test."""
    before = clips_of(split_of(data)).content_hash
    (data / "train" / "all").symlink_to(data / "train", target_is_directory=True)
    (data / "train" / "up").symlink_to(data, target_is_directory=True)
    (data / "train" / "latest").symlink_to(data / "train" / "traj_0_to_255.tfrecords" / "9", target_is_directory=True)
    assert clips_of(split_of(data)).content_hash == before
    assert f"{data / 'train'}: not read as frames: all/, latest/, up/; expected numbered" in capsys.readouterr().err


@posix
def test_links_to_sequences_elsewhere_are_followed_once(data, tmp_path):
    outside = tmp_path / "elsewhere"
    write_sequence(outside, 4)
    (outside / "loop").symlink_to(outside, target_is_directory=True)
    names = {*split_of(data).sequences}
    (data / "train" / "more").symlink_to(outside, target_is_directory=True)
    assert {*split_of(data).sequences} == names | {"more"}


def test_a_column_that_counts_the_frames_is_named(data, capsys):
    """An index that pandas writes would become a condition."""
    for path in (data / "train").rglob("actions.csv"):
        lines = path.read_text().splitlines()
        path.write_text("".join(f"{number},{line}\n" for number, line in enumerate(lines)))
    split_of(data)
    assert f"{data / 'train'}: the first condition value counts the frames; if it is an index" in capsys.readouterr().err


def test_what_is_no_sequence_is_listed_in_one_line(data, capsys):
    """An empty folder may be a sequence that was not copied; images of other types may be all of its frames."""
    train = data / "train"
    before = clips_of(split_of(data)).content_hash
    assert capsys.readouterr().err == ""
    (train / "traj_0_to_255.tfrecords" / "11").mkdir()
    (train / "traj_0_to_255.tfrecords" / "12").mkdir()
    for place in ("9/4.heic", "12/0.heic", "10/preview.gif"):
        (train / "traj_0_to_255.tfrecords" / place).touch()
    assert clips_of(split_of(data)).content_hash == before
    expected = [f"traj_0_to_255.tfrecords/{name}" for name in ("11/", "12/0.heic", "9/4.heic", "10/preview.gif")]
    assert capsys.readouterr().err == f"{train}: not read as frames: {', '.join(expected)}; {WHAT_IS_READ}\n"


@pytest.mark.parametrize("name, expected", [
    ("2.gif", r"2\.gif: expected \.png, .*, got \.gif; convert it"), ("2.avif", r"got \.avif; convert it"), ("frame2.png.part", r"got \.part; rename it"),
    ("2.png", r"2\.png: expected an image, got a folder; rename it, or move it out of 10/"),
])  # fmt: skip
def test_a_frame_that_is_not_read_is_named(data, name, expected):
    folder = data / "train" / "traj_0_to_255.tfrecords" / "10"
    (folder / "2.png").unlink()
    (folder / name).mkdir() if name == "2.png" else (folder / name).touch()
    with pytest.raises(UserError, match=f"1 of 12 frames cannot be used.*\n.*{expected}"):
        split_of(data)


@pytest.mark.parametrize("name", ["actions.csv", "endeffector_positions.csv"])
def test_tables_with_another_case_of_letters_are_refused(data, name):
    """With positions of another name in every sequence, the model once trained without them."""
    for folder in (data / "train" / "traj_0_to_255.tfrecords").iterdir():
        (folder / name).rename(folder / name.upper())
        if (folder / name).exists():
            pytest.skip("this disk ignores the case of letters")
    with pytest.raises(UserError) as raised:
        split_of(data)
    assert len(raised.value.problems) == 2
    assert all(
        problem.endswith(f"{name}: no such file; got {name.upper()}, rename it to {name}") for problem in raised.value.problems
    )


def test_a_folder_with_positions_alone_is_a_damaged_sequence(data):
    (data / "train" / "traj_0_to_255.tfrecords" / "11").mkdir()
    shutil.copy(
        data / "train" / "traj_0_to_255.tfrecords" / "9" / "endeffector_positions.csv",
        data / "train" / "traj_0_to_255.tfrecords" / "11",
    )
    with pytest.raises(UserError, match=r"tfrecords.11: holds no images"):
        split_of(data)


def test_tables_may_have_any_number_of_columns(tmp_path):
    write_sequence(tmp_path / "train" / "0", 4, actions=2, positions=None)
    assert split_of(tmp_path).conditions.shape == (4, 2)


def test_frame_numbers_may_start_anywhere(tmp_path):
    write_sequence(tmp_path / "train" / "0", 4, first=1)
    assert split_of(tmp_path).conditions[0].tolist() == [0, 1, 2, 3, 1000, 1001, 1002]


def test_short_sequences_are_named_and_skipped(data, capsys):
    assert list(split_of(data, shortest=6).sequences) == ["traj_0_to_255.tfrecords/10"]
    assert "skipped sequences shorter than 6 frames: traj_0_to_255.tfrecords/9 (5)" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"every sequence is shorter than 8 frames: .*/9 .5., .*/10 .7."):
        split_of(data, shortest=8)


def spoil(folder, fault: str) -> None:
    """Damage a sequence."""
    actions = folder / "actions.csv"
    lines = actions.read_text().splitlines()
    if fault == "no csv":
        actions.unlink()
    elif fault == "few rows":
        actions.write_text("\n".join(lines[:-1]))
    elif fault == "many rows":
        (folder / "0.png").unlink()  # each remaining frame would get the row of the previous one
    elif fault == "not text":
        actions.write_bytes(actions.read_text().encode("utf-16"))
    elif fault == "words":
        actions.write_text("\n".join([*lines[:2], "up,down,left,right", *lines[3:]]))
    elif fault == "ragged":
        actions.write_text("\n".join([*lines[:2], "1,2,3", *lines[3:]]))
    elif fault == "nan":
        actions.write_text("\n".join([*lines[:2], "1,nan,3,4", *lines[3:]]))
    elif fault == "huge":  # valid for float(), but infinite in the model's single precision
        actions.write_text("\n".join([*lines[:2], "1,1e39,3,4", *lines[3:]]))
    elif fault == "gap":
        (folder / "2.png").unlink()
    elif fault == "other width":
        (folder / "endeffector_positions.csv").unlink()
    elif fault == "damaged image":
        (folder / "2.png").write_bytes(b"no picture")
    elif fault == "no images":
        for path in folder.glob("*.png"):
            path.unlink()


@pytest.mark.parametrize("fault, message", [
    ("no csv", "actions.csv: no such file"), ("few rows", "expected 7 rows, one for each frame, got 6"), ("many rows", "expected 6 rows, one for each frame, got 7"), ("not text", "got text that is not UTF-8"),
    ("words", "line 3: expected comma-separated numbers, got 'up,down"),
    ("ragged", "line 3: expected 4 values as in most lines, got 3"), ("nan", "line 3: expected finite numbers up to 3.4e.38, got nan in '1,nan,3,4'"), ("huge", "line 3: expected finite numbers up to 3.4e.38, got 1e39 in '1,1e39,3,4'"), ("gap", "no frame 2 between 1 and 3"),
    ("other width", "expected 7 condition values a frame as in traj_0_to_255.tfrecords/9, got 4"), ("damaged image", "2.png: cannot be read"),
    ("no images", "holds no images"),
])  # fmt: skip
def test_problems_are_named(data, fault, message):
    spoil(data / "train" / "traj_0_to_255.tfrecords" / "10", fault)
    with pytest.raises(UserError, match=message):
        split_of(data)


def test_an_empty_split_is_refused(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match="no sequences; expected"):
        split_of(tmp_path)
    with pytest.raises(UserError, match="no folder validate/"):
        RobotSplit.load(tmp_path, "validate", shortest=4, **SIZE)


def test_a_clip_is_a_window_of_one_sequence(data):
    """Frames and conditions belong to the same times of one sequence, and every window occurs."""
    split = split_of(data)
    clips, seen = clips_of(split), set()
    for epoch in range(30):
        for index in range(len(clips)):
            clip = clips[epoch, index]
            start = next(i for i in range(12) if np.array_equal(split.conditions[i : i + 4], clip["conditions"]) and
                         np.array_equal(split.images[i : i + 4], clip["frames"]))  # fmt: skip
            seen.add((start, clip["conditions"][0, 0].item()))
    # Both sequences start with the same frames, so a match may be in the other one. Only the times are compared.
    assert {time for _, time in seen} == {0, 10, 20, 30}


def test_an_epoch_has_the_requested_number_of_batches_and_new_clips(data):
    clips = clips_of(split_of(data), clips_per_epoch=40)
    order = ClipBatches(len(clips), batch_size=4, accumulate=1, seed=1)
    batches = [batch for _, batch in build_loader(clips, order, workers=0, pin=False)]
    assert len(batches) == 10 and batches[0]["frames"].shape == (4, 4, 3, 32, 32) and batches[0]["conditions"].shape == (4, 4, 7)
    assert all(torch.equal(clips[0, 3][name], clips[0, 3][name]) for name in ("frames", "conditions"))
    assert any(not torch.equal(clips[0, i]["conditions"], clips[1, i]["conditions"]) for i in range(40))


def test_a_shift_changes_frames_but_not_conditions(data):
    split = split_of(data)
    shifted, still = clips_of(split, shift=3), clips_of(split)
    assert any(not torch.equal(shifted[0, i]["frames"], still[0, i]["frames"]) for i in range(6))
    assert all(torch.equal(shifted[0, i]["conditions"], still[0, i]["conditions"]) for i in range(6))


def test_partial_keeps_the_first_sequences(data):
    assert {start for start in clips_of(split_of(data), partial=0.5).starts} == {0, 1}


def test_fixed_windows_are_consecutive(data):
    windows = fixed_windows(split_of(data, shortest=3), context=2, length=3, most=None)
    assert [window.name for window in windows] == [
        "traj_0_to_255.tfrecords--9-0",
        "traj_0_to_255.tfrecords--10-0",
        "traj_0_to_255.tfrecords--10-3",
    ]
    assert windows[2].conditions[:, 0].tolist() == [30, 40, 50] and torch.equal(
        windows[2].context_frames, windows[2].ground_truth[:2]
    )
    assert len(fixed_windows(split_of(data, shortest=3), context=2, length=3, most=1)) == 2


def test_the_scale_of_the_conditions_comes_from_the_data(data):
    split = split_of(data)
    split.conditions[:, 1] = 7.0
    split.conditions[:, 2] *= 1e-4  # small is not constant
    mean, scale = clips_of(split).condition_scale()
    assert mean[0] == pytest.approx(split.conditions[:, 0].mean(), rel=1e-5) and scale[0] == pytest.approx(
        split.conditions[:, 0].std(), rel=1e-5
    )
    assert mean[1] == 7.0 and scale[1] == 1.0 and scale[2] < 0.01


def test_a_loader_process_opens_the_cache_itself(data):
    clips = clips_of(split_of(data))
    copied = pickle.loads(pickle.dumps(clips))
    assert len(pickle.dumps(clips)) < 20_000
    assert torch.equal(copied[0, 2]["frames"], clips[0, 2]["frames"])


def test_a_sequence_that_moved_is_decoded_again(data):
    """Sequences of different trajectories have the same folder and file names, so their fingerprints must differ."""
    before = split_of(data).images.filename
    shutil.move(data / "train" / "traj_0_to_255.tfrecords" / "9", data / "train" / "traj_256_to_511.tfrecords" / "9")
    assert split_of(data).images.filename != before
