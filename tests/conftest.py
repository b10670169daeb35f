"""Small data sets and trained runs that the tests share. Everything is rendered here; nothing is downloaded."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.helpers.settings import SMALL, SMALL_SVG
from tools import make_demo_data


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Use one CPU thread: small tensors are much faster that way, and sums have a fixed order."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def quick_curves():
    """Write the training curves as text instead of drawing them.

    The tests train hundreds of epochs, and drawing the curves would take longer than most of these epochs. Tests of the curves, and
    runs in separate processes, do draw them.
    """
    import Trainer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "draw_training", lambda runs, path, **_: path.write_text(repr(runs)))
        yield


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """Do not flush files to the disk, because thousands of small files would wait for it. Tests of flushing replace fsync."""
    monkeypatch.setattr("os.fsync", lambda _handle: None)


@pytest.fixture(autouse=True)
def seeded():
    """Seed torch before every test."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def rendered(tmp_path_factory) -> Path:
    """Return a rendered dance of 2 x 20 training, 12 validation and 2 x 9 test frames. No test may change it."""
    folder = tmp_path_factory.mktemp("data") / "LAB4_Dataset"
    make_demo_data.main(["--out", str(folder), "--train", "40", "--val", "12", "--test", "9", "--sequences", "2"])
    return folder


@pytest.fixture
def dataset(rendered, tmp_path) -> Path:
    """Return a copy of the rendered dance that the test may damage."""
    return Path(shutil.copytree(rendered, tmp_path / "LAB4_Dataset"))


@pytest.fixture
def fresh(tmp_path) -> Callable[[], Path]:
    """Return a function that makes a new folder at each call, for a test with many cases."""
    numbers = itertools.count()

    def make() -> Path:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        return folder

    return make


@pytest.fixture
def train_args(rendered, tmp_path) -> list[str]:
    """Return the flags of a training run of one or two seconds."""
    return ["--DR", str(rendered), "--save_root", str(tmp_path / "run"), "--num_epoch", "2", "--batch_size", "3", *SMALL]


@pytest.fixture(scope="session")
def trained(rendered, tmp_path_factory) -> Path:
    """Return a finished small run. No test may change it."""
    import Trainer

    folder = tmp_path_factory.mktemp("trained") / "run"
    torch.set_num_threads(1)
    argv = ["--DR", str(rendered), "--save_root", str(folder), "--num_epoch", "2", "--per_save", "1", "--batch_size", "4"]
    Trainer.main([*argv, *SMALL])
    return folder


@pytest.fixture(scope="session")
def rendered_robot(tmp_path_factory) -> Path:
    """Return rendered robot sequences of 11 frames: 4 for training, 3 for validation, 2 for tests. No test may change them."""
    folder = tmp_path_factory.mktemp("robot") / "processed_data"
    make_demo_data.main(["--scene", "robot", "--out", str(folder), "--train", "4", "--val", "3", "--test", "2", "--frames", "11"])
    return folder


@pytest.fixture(scope="session")
def trained_robot(rendered_robot, tmp_path_factory) -> Path:
    """Return a finished small run with a learned prior. No test may change it."""
    import Trainer

    folder = tmp_path_factory.mktemp("trained_robot") / "run"
    torch.set_num_threads(1)
    Trainer.main(["--model", "svg_lp", "--data_root", str(rendered_robot), "--log_dir", str(folder), *SMALL_SVG])
    return folder


@pytest.fixture(scope="session")
def tested(rendered, trained, tmp_path_factory) -> Path:
    """Return a dance run with its test results."""
    return with_test(trained, rendered, tmp_path_factory.mktemp("tested") / "run")


@pytest.fixture(scope="session")
def tested_robot(rendered_robot, trained_robot, tmp_path_factory) -> Path:
    """Return a robot run with its test results; its sequences are windows."""
    return with_test(trained_robot, rendered_robot, tmp_path_factory.mktemp("tested_robot") / "run", "--show", "2")


def with_test(run: Path, data: Path, folder: Path, *more: str) -> Path:
    """Copy a run to `folder`, test it there, and return the folder."""
    import Tester

    shutil.copytree(run, folder)
    Tester.main(["--DR", str(data), "--ckpt_path", str(folder), "--device", "cpu", *more])
    return folder


@pytest.fixture
def blank_charts(monkeypatch):
    """Lay out plots without drawing them, which would take the most time; test_plots.py tests their content."""
    monkeypatch.setattr("visualization.plots.Figure.savefig", lambda _, file: Image.new("L", (2, 2)).save(file, "PNG"))


@pytest.fixture(scope="session")
def film(tmp_path_factory) -> Path:
    """Return a folder with the frames of tests/helpers/films.py in dance/, their keypoints in dance.csv, and their data set in data/.

    No test may change it.
    """
    from tests.helpers import films
    from tools import prepare_video

    folder = tmp_path_factory.mktemp("film")
    films.write_frames(folder / "dance")
    films.write_keypoints(folder / "dance.csv")
    argv = [folder / "dance", "--poses", folder / "dance.csv", "--out", folder / "data", "--height", "64"]
    prepare_video.main([str(part) for part in argv])
    return folder
