"""notebooks/quick_start.ipynb, executed on tiny data, and outside the repository, which it then clones."""

import base64
import html
import io
import os
import subprocess

import pytest
from PIL import Image

from tests.helpers.settings import ROOT, SMALL

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

PATH = ROOT / "notebooks" / "quick_start.ipynb"


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """Return the notebook; the kernel's user files go into tmp_path."""
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return nbformat.read(PATH, as_version=4)


def execute(notebook, folder, **parameters: str):
    """Run the notebook in a folder, with other values after its cell of parameters; any error is raised."""
    (position,) = (i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    assert all(
        f"{name} = " in notebook.cells[position].source or f"{name}, " in notebook.cells[position].source for name in parameters
    )
    values = "\n".join(f"{name} = {str(value)!r}" for name, value in parameters.items())
    notebook.cells.insert(position + 1, nbformat.v4.new_code_cell(values))
    return nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()


def printed_by(cells) -> str:
    """Return the printed output of cells; one print may arrive in several parts."""
    return "".join(output.text for cell in cells for output in cell.get("outputs", []) if output.output_type == "stream")


def images_of(notebook) -> list[Image.Image]:
    """Return the images that the cells display."""
    data = [output.data for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    return [
        Image.open(io.BytesIO(base64.b64decode(found[kind])))
        for found in data
        for kind in ("image/png", "image/gif")
        if kind in found
    ]


def test_the_notebook_is_stored_without_outputs(notebook):
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    assert PATH.stat().st_size < 8000


@pytest.mark.slow  # three programs one after the other, each of which imports torch: about 20 seconds
def test_the_notebook_renders_trains_tests_and_shows_the_results(notebook, tmp_path):
    """It runs in notebooks/, as Jupyter starts it."""
    data, run = tmp_path / "my data", tmp_path / "runs" / "demo"
    done = execute(notebook, PATH.parent, DATA=data, RUN=run, RENDER_FLAGS="--train 40 --val 12 --test 9 --sequences 1",
                   TRAIN_FLAGS=" ".join([*SMALL, "--num_epoch", "1"]), TEST_FLAGS="--device cpu --strip_every 3")  # fmt: skip
    printed = printed_by(done.cells)
    assert "wrote " in printed and "epoch 1/1" in printed and "sequence  frames" in printed and "error" not in printed
    curves, video, steps, strip = images_of(done)
    (page,) = (
        output.data["text/html"]
        for cell in done.cells
        for output in cell.get("outputs", [])
        if "text/html" in output.get("data", {})
    )
    assert (run / "report" / "report.html").read_text(encoding="utf-8") in html.unescape(page)
    assert curves.size == (1800, 800) and (video.format, video.size, video.n_frames) == ("GIF", (772, 128), 9)
    assert steps.size == (1000, 450) and strip.size[0] > strip.size[1]
    assert (run / "test" / "submission.csv").is_file() and not (PATH.parent / "demo_data").exists()


@pytest.mark.slow
def test_outside_the_repository_the_notebook_clones_it(notebook, tmp_path):
    """The repository that it clones here contains one script and requires no packages."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "Trainer.py").touch()
    (source / "requirements.txt").touch()
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@b.c", "-C", str(source)]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "One script."]):
        subprocess.run([*git, *command], check=True)
    first = next(i for i, cell in enumerate(notebook.cells) if "git clone" in cell.source)
    notebook.cells = [*notebook.cells[: first + 1], nbformat.v4.new_code_cell("print(Path.cwd(), Path('Trainer.py').exists())")]
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    done = execute(notebook, folder, REPO=source.as_uri())
    assert printed_by(done.cells[-1:]).split() == [os.path.realpath(folder / "nextframe"), "True"]
