"""Small data and models that all tests share. Everything is rendered here; nothing is downloaded."""

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
    """Small tensors are many times faster on one thread, and sums come out in one order."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def quick_curves():
    """Hundreds of epochs are trained in these tests, and drawing the curves after each takes longer than most of them; that they are
    drawn is tested by itself, and by runs that are processes of their own."""
    import Trainer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "draw_training", lambda runs, path, **_: path.write_text(repr(runs)))
        yield


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """Thousands of small files are flushed in these tests; that it is asked for is tested by itself, and by killed processes."""
    monkeypatch.setattr("os.fsync", lambda _handle: None)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def rendered(tmp_path_factory) -> Path:
    """A demo data set that no test changes: 2 x 20 training, 12 validation and 2 x 9 test frames."""
    folder = tmp_path_factory.mktemp("data") / "LAB4_Dataset"
    make_demo_data.main(["--out", str(folder), "--train", "40", "--val", "12", "--test", "9", "--sequences", "2"])
    return folder


@pytest.fixture
def dataset(rendered, tmp_path) -> Path:
    """A copy of the demo data that the test may spoil."""
    return Path(shutil.copytree(rendered, tmp_path / "LAB4_Dataset"))


@pytest.fixture
def fresh(tmp_path) -> Callable[[], Path]:
    """Makes a new folder each time, for a test that goes through many cases."""
    numbers = itertools.count()

    def make() -> Path:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        return folder

    return make


@pytest.fixture
def train_args(rendered, tmp_path) -> list[str]:
    """Flags of a training run of a second or two."""
    return ["--DR", str(rendered), "--save_root", str(tmp_path / "run"), "--num_epoch", "2", "--batch_size", "3", *SMALL]


@pytest.fixture(scope="session")
def trained(rendered, tmp_path_factory) -> Path:
    """A finished small run that no test changes."""
    import Trainer

    folder = tmp_path_factory.mktemp("trained") / "run"
    torch.set_num_threads(1)
    Trainer.main(
        ["--DR", str(rendered), "--save_root", str(folder), "--num_epoch", "2", "--per_save", "1", "--batch_size", "4", *SMALL]
    )
    return folder


@pytest.fixture(scope="session")
def rendered_robot(tmp_path_factory) -> Path:
    """Pushing sequences of 11 frames that no test changes: 4 for training, 3 for validation, 2 for tests."""
    folder = tmp_path_factory.mktemp("robot") / "processed_data"
    make_demo_data.main(["--scene", "robot", "--out", str(folder), "--train", "4", "--val", "3", "--test", "2", "--frames", "11"])
    return folder


@pytest.fixture(scope="session")
def trained_robot(rendered_robot, tmp_path_factory) -> Path:
    """A finished small run with a learned prior that no test changes."""
    import Trainer

    folder = tmp_path_factory.mktemp("trained_robot") / "run"
    torch.set_num_threads(1)
    Trainer.main(["--model", "svg_lp", "--data_root", str(rendered_robot), "--log_dir", str(folder), *SMALL_SVG])
    return folder


@pytest.fixture(scope="session")
def tested(rendered, trained, tmp_path_factory) -> Path:
    """A run of the dance with its test results."""
    return with_test(trained, rendered, tmp_path_factory.mktemp("tested") / "run")


@pytest.fixture(scope="session")
def tested_robot(rendered_robot, trained_robot, tmp_path_factory) -> Path:
    """The same of the robot; its sequences are windows."""
    return with_test(trained_robot, rendered_robot, tmp_path_factory.mktemp("tested_robot") / "run", "--show", "2")


def with_test(run: Path, data: Path, folder: Path, *more: str) -> Path:
    """A copy of a run, tested."""
    import Tester

    shutil.copytree(run, folder)
    Tester.main(["--DR", str(data), "--ckpt_path", str(folder), "--device", "cpu", *more])
    return folder


@pytest.fixture
def blank_charts(monkeypatch):
    """Charts are laid out but not drawn, which takes longest; what is in them is tested in test_plots.py."""
    monkeypatch.setattr("visualization.plots.Figure.savefig", lambda _, file: Image.new("L", (2, 2)).save(file, "PNG"))


@pytest.fixture(scope="session")
def film(tmp_path_factory) -> Path:
    """Frames of tests/films.py in dance/, their keypoints in dance.csv and the data set made of them in data/, which no test
    changes."""
    from tests.helpers import films
    from tools import prepare_video

    folder = tmp_path_factory.mktemp("film")
    films.write_frames(folder / "dance")
    films.write_keypoints(folder / "dance.csv")
    prepare_video.main(
        [str(folder / "dance"), "--poses", str(folder / "dance.csv"), "--out", str(folder / "data"), "--height", "64"]
    )
    return folder
