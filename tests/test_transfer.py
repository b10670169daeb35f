"""Trained models with the poses of another video, or with another first frame."""

import numpy as np
import pytest
import torch
from PIL import Image

import Tester
from data.dance import DanceSplit
from data.dance_sequences import load_test_sequences
from evaluation.rollout import rollout_sequences
from poses.keypoint_csv import csv_header, csv_row
from poses.skeleton import draw_pose
from poses.transfer import first_frame, measure_person, pose_images
from tests.helpers.films import FRAMES, pose, write_frames, write_keypoints, write_openpose
from tests.helpers.images import write_image
from tests.helpers.refusals import refused
from tools import prepare_video
from utils import UserError, seed_for


def dancer(size: float, left: float, feet: float) -> np.ndarray:
    """Return the pose of a person of `size` pixels who stands at x = left, y = feet."""
    up = {"left_ankle": 0, "left_knee": 0.25, "left_hip": 0.5, "mid_hip": 0.5, "right_hip": 0.5, "right_knee": 0.25, "right_ankle": 0,
          "neck": 0.85, "nose": 1}  # fmt: skip
    across = {"left_hip": 0.1, "right_hip": -0.1, "left_knee": 0.1, "right_knee": -0.1, "left_ankle": 0.1, "right_ankle": -0.1}
    return pose(**{name: (left + across.get(name, 0) * size, feet - share * size) for name, share in up.items()})


def drawn(poses: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """Return pose images (N, height, width, 3)."""
    return np.stack([np.asarray(draw_pose(p, height=height, width=width)) for p in poses])


def write_csv(path, poses):
    lines = [csv_header(), *(csv_row(t, p) for t, p in enumerate(poses))]
    path.write_text("\n".join(",".join(map(str, line)) for line in lines))
    return path


def no_detector():
    raise AssertionError("no detector is needed")


def test_the_measure_of_a_person_is_proportional_to_the_size_of_the_images():
    small, large = (measure_person(drawn([dancer(20 * zoom, 30 * zoom, 28 * zoom)] * 3, 32 * zoom, 64 * zoom)) for zoom in (1, 8))
    assert np.array(small) * 8 == pytest.approx(np.array(large), abs=8)
    assert large.height == pytest.approx(20 * 8, rel=0.06) and large.center == pytest.approx(30 * 8, abs=4)
    assert measure_person(np.full((2, 32, 64, 3), 255, np.uint8)) is None


@pytest.mark.parametrize("kind", ["csv", "images", "json"])
def test_a_person_gets_the_size_and_place_of_the_one_in_training(tmp_path, kind):
    """A person of 120 pixels on the right of a 360 x 480 video becomes one of 20 pixels on the left of a 32 x 64 image."""
    trained = drawn([dancer(20, x, 28) for x in (14, 16, 18)], 32, 64)
    source = [dancer(120, x, 300) for x in (380, 400, 420)]
    if kind == "csv":
        path = write_csv(tmp_path / "k.csv", source)
    elif kind == "json":
        path = tmp_path / "openpose"
        path.mkdir()
        for t, p in enumerate(source):
            write_openpose(path / f"a_{t:012d}_keypoints.json", p)
    else:
        path = tmp_path / "poses"
        path.mkdir()
        for t, image in enumerate(drawn(source, 360, 480)):
            Image.fromarray(image).save(path / f"{t}.png")
    moved = pose_images(path, like=trained, height=32, width=64, detector=no_detector)
    assert moved.shape == (3, 3, 32, 64) and moved.dtype == torch.uint8
    found, wanted = measure_person(moved.permute(0, 2, 3, 1).numpy()), measure_person(trained)
    assert found.height == pytest.approx(wanted.height, rel=0.03)
    assert found.feet == pytest.approx(wanted.feet, abs=0.6) and found.center == pytest.approx(wanted.center, abs=0.6)
    if kind == "csv":  # redrawn, so nearly the same images; steps of 20 pixels became 20 / 6
        assert np.abs(moved[1].permute(1, 2, 0).numpy().astype(int) - drawn([dancer(20, 16, 28)], 32, 64)[0]).mean() < 1.5


def test_without_fitting_the_whole_image_is_kept(tmp_path):
    """A 2:1 image is resized as in the course. If the shape differs, the image is kept whole and padded with its background."""
    for t in range(2):
        Image.fromarray(drawn([dancer(60, 60 + t, 90)], 96, 192)[0]).save(tmp_path / f"{t}.png")
    moved = pose_images(tmp_path, like=None, height=32, width=64, detector=no_detector)
    expected = np.asarray(Image.open(tmp_path / "0.png").resize((64, 32), Image.Resampling.BILINEAR))
    assert np.array_equal(moved[0].permute(1, 2, 0).numpy(), expected)
    square = pose_images(tmp_path, like=None, height=64, width=64, detector=no_detector)
    assert (square[:, :, :15] == 255).all() and (square[:, :, 49:] == 255).all() and (square[:, :, 16:48] < 255).any()


def test_a_video_is_searched_for_people(tmp_path):
    write_frames(tmp_path / "dance", 5)

    class Detector:
        """Finds a person at the red square."""

        def find_people(self, frame):
            y, x = np.argwhere((frame[..., 0] > 200) & (frame[..., 1] < 60)).mean(0)
            return dancer(40, x, y + 40)[None]

    frames = [Image.open(tmp_path / "dance" / f"{t}.png") for t in range(5)]
    frames[0].save(tmp_path / "dance.gif", save_all=True, append_images=frames[1:], duration=40)
    moved = pose_images(tmp_path / "dance.gif", like=drawn([dancer(20, 16, 28)], 32, 64), height=32, width=64, detector=Detector)
    found = measure_person(moved.permute(0, 2, 3, 1).numpy())
    assert len(moved) == 5 and found == pytest.approx(measure_person(drawn([dancer(20, 16, 28)], 32, 64)), abs=0.7)


def test_the_tester_rolls_out_the_poses_of_a_prepared_video(rendered, trained, tmp_path, capsys):
    """The model predicts these poses from the first frame of the first test sequence."""
    write_frames(tmp_path / "dance")
    keypoints = write_keypoints(tmp_path / "dance.csv")
    prepare_video.main([str(tmp_path / "dance"), "--poses", str(keypoints), "--out", str(tmp_path / "other")])
    argv = ["--DR", str(rendered), "--ckpt_path", str(trained), "--pose_from", str(tmp_path / "other"), "--save_root", str(tmp_path / "out"),
            "--device", "cpu"]  # fmt: skip
    Tester.main(argv)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"compare_seqother.gif", "strip_seqother.png", "scores.json"}
    assert f"1 sequence, {FRAMES} frames" in capsys.readouterr().out
    known = DanceSplit.load(rendered, "train", height=32, width=64).images[1].transpose(0, 2, 3, 1)
    poses = pose_images(tmp_path / "other", like=known, height=32, width=64, detector=no_detector)
    from data.clips import Sequence
    from training.checkpoints import load_checkpoint, model_from_checkpoint

    model = model_from_checkpoint(load_checkpoint(trained / "best.ckpt"), trained / "best.ckpt")
    sequence = Sequence("other", load_test_sequences(rendered, height=32, width=64)[0].context_frames, poses, None)
    video = rollout_sequences(
        model,
        [sequence],
        [seed_for(1, "test", "other", 0)],
        device=torch.device("cpu"),
        precision="none",
        z_scale=1.0,
        batch_size=1,
    )[0]
    strip = np.asarray(Image.open(tmp_path / "out" / "strip_seqother.png"))
    zoom = strip.shape[0] // (2 * 32 + 2)
    last = strip[::zoom, ::zoom][34:, :64]  # the first frame in the row of predictions
    assert np.array_equal(last, (video[0] * 255).round().byte().permute(1, 2, 0).numpy())


def test_keypoints_of_every_third_frame_have_no_gaps(tmp_path):
    """The keypoints of a data set have the numbers of the film's frames. Here, every third frame was used."""
    film, keypoints = write_frames(tmp_path / "dance"), write_keypoints(tmp_path / "k.csv")
    prepare_video.main(
        [str(film), "--poses", str(keypoints), "--out", str(tmp_path / "data"), "--skip", "9", "--every", "3", "--height", "32"]
    )
    for path in (tmp_path / "data", tmp_path / "data" / "keypoints" / "0.csv"):
        shown = pose_images(path, like=None, height=32, width=64, detector=no_detector)
        assert len(shown) == 17 and (shown.flatten(1).amin(1) < 255).all()


def test_a_data_set_made_of_pose_images_gives_those_of_its_first_video(tmp_path):
    """They are in order and complete apart from the gaps between the splits, although the video has a cut."""
    films, labels = [tmp_path / "a", tmp_path / "b"], [tmp_path / "labels_a", tmp_path / "labels_b"]
    for film, folder, gray in zip(films, labels, (100, 20)):
        write_frames(film, 40, lambda t, image: image if t < 15 else 255 - image)
        folder.mkdir()
        for t in range(40):
            image = np.full((90, 160, 3), gray + t, np.uint8)
            image[40:50, 70:90] = 255
            Image.fromarray(image).save(folder / f"{t}.png")
    prepare_video.main([*map(str, films), "--poses", *map(str, labels), "--out", str(tmp_path / "data"), "--height", "32"])
    shown = pose_images(tmp_path / "data", like=None, height=32, width=64, detector=no_detector)
    assert shown[:, 0, 0, 0].tolist() == [100 + t for t in {*range(40)} - {28, 29, 34, 35}]


def test_results_for_other_poses_have_a_folder_of_their_own(rendered, trained, tmp_path):
    import shutil

    run = shutil.copytree(trained, tmp_path / "run")
    path = write_csv(tmp_path / "walk.csv", [dancer(40, x, 50) for x in range(5)])
    Tester.main(["--DR", str(rendered), "--ckpt_path", str(run), "--pose_from", str(path), "--device", "cpu"])
    assert (run / "test_with_walk.csv" / "compare_seqwalk.gif").is_file() and not (run / "test").exists()


def test_any_image_can_be_the_first_frame(rendered, trained, tmp_path):
    """An image of another shape is cropped to its center. The rollout begins with it and gets no score."""
    pixels = np.zeros((60, 60, 3), np.uint8)
    pixels[15:45] = 200  # the part that has 2:1
    Image.fromarray(pixels).save(tmp_path / "me.png")
    assert (first_frame(tmp_path / "me.png", height=32, width=64)[:, :, 1:-1] == 200).all()
    Tester.main(["--DR", str(rendered), "--ckpt_path", str(trained), "--first_frame", str(tmp_path / "me.png"), "--save_root",
                 str(tmp_path / "out"), "--device", "cpu"])  # fmt: skip
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"{kind}_seq{i}.{suffix}" for i in (0, 1) for kind, suffix in [("compare", "gif"), ("strip", "png")]} | {
        "scores.json"
    }
    strip = np.asarray(Image.open(tmp_path / "out" / "strip_seq0.png"))
    assert (strip[-40:-20, :20] == 200).all()


def test_wrong_input_is_refused(rendered, trained, trained_robot, rendered_robot, tmp_path, capsys):
    argv = ["--DR", rendered, "--ckpt_path", trained, "--save_root", tmp_path / "out", "--device", "cpu"]
    assert "no such file or folder" in refused(capsys, Tester.main, [*argv, "--pose_from", tmp_path / "gone"])
    assert "no such file" in refused(capsys, Tester.main, [*argv, "--first_frame", tmp_path / "gone.png"])
    (tmp_path / "text.png").write_text("not an image")
    assert "cannot be read as an image" in refused(capsys, Tester.main, [*argv, "--first_frame", tmp_path / "text.png"])
    empty = write_csv(tmp_path / "empty.csv", [pose()])
    assert f"{empty}: nobody was found in any frame" in refused(capsys, Tester.main, [*argv, "--pose_from", empty])
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "manifest.json").write_text('{"settings": {}, "splits": {}}')
    assert "has finished" in refused(capsys, Tester.main, [*argv, "--pose_from", tmp_path / "half"])
    robot = ["--DR", rendered_robot, "--ckpt_path", trained_robot, "--save_root", tmp_path / "out", "--device", "cpu"]
    assert "no such flag" in refused(capsys, Tester.main, [*robot, "--first_frame", write_image(tmp_path / "a.png")])
    with pytest.raises(UserError, match="cannot be read as a video"):
        pytest.importorskip("av")
        (tmp_path / "b.mp4").write_text("not a video")
        pose_images(tmp_path / "b.mp4", like=None, height=32, width=64, detector=no_detector)
