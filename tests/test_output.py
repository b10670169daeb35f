"""Standard output and errors that cannot be written: closed, on a full disk, in an encoding without some characters, without a reader."""

import contextlib
import encodings.aliases
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

import Tester
import Trainer
from runtime.output import LOST_LINES, LOST_OUTPUT, MOST_KEPT, Losses, SafeStream, capture_losses, keep_lost_lines_in
from runtime.program import one_line_errors
from tests.helpers.runs import TINY, metrics_row, open_run_folder, posix, run_differences
from tests.helpers.settings import ROOT
from tools import plot_curves

ENCODINGS = ("ascii", "cp1252", "utf-16", "utf-8")
KINDS = [*ENCODINGS, "closed", *(pytest.param(kind, marks=posix) for kind in ("full", "no reader"))]
REASONS = {"closed": "it is closed", "full": "No space left on device", "no reader": "Broken pipe"}


class OpenStream:
    """A context with a stream of a kind: an encoding, or one of REASONS."""

    def __init__(self, kind: str):
        self.kind, self.file = kind, None

    def __enter__(self):
        if self.kind in ENCODINGS:
            self.file = io.TextIOWrapper(io.BytesIO(), encoding=self.kind)
        elif self.kind == "full":
            self.file = open("/dev/full", "w")
        elif self.kind == "no reader":
            reader, writer = os.pipe()
            os.close(reader)
            self.file = open(writer, "w")
        return self

    def text(self) -> str:
        return self.file.buffer.getvalue().decode(self.kind)

    def __exit__(self, *_):
        if self.file is not None:
            with contextlib.suppress(OSError):
                self.file.close()


def run_with(monkeypatch, main, argv: list, stdout: str, stderr: str) -> tuple[int, str | None]:
    """Call main(argv) with standard files of these kinds; return the exit status, and stdout where it can be written."""
    with OpenStream(stdout) as out, OpenStream(stderr) as err, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out.file)
        patch.setattr(sys, "stderr", err.file)
        try:
            main([str(part) for part in argv])
            status = 0
        except SystemExit as stop:
            status = stop.code
        return status, out.text() if stdout in ENCODINGS else None


def lost_lines(folder: Path) -> list[str]:
    """Return the lines of the log in a folder of results; none without a log."""
    path = folder / LOST_LINES
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@pytest.fixture(scope="module")
def undisturbed(rendered, tmp_path_factory) -> Path:
    """Return a run of one epoch whose output could be written. No test may change it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "LAB4_Dataset").symlink_to(rendered)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Trainer.main(TRAINING)
    return folder


TRAINING = ["--DR", "LAB4_Dataset", "--save_root", "舞", *TINY, "--num_epoch", "1", "--epoch_size", "2", "--num_workers", "0"]


def train_with(monkeypatch, undisturbed: Path, folder: Path, stdout: str, stderr: str) -> None:
    """Train with standard files of these kinds: the files must be those of an undisturbed run, and no line may be lost."""
    (folder / "LAB4_Dataset").symlink_to(undisturbed / "LAB4_Dataset")
    monkeypatch.chdir(folder)
    status, output = run_with(monkeypatch, Trainer.main, TRAINING, stdout, stderr)
    assert run_differences(undisturbed / "舞", folder / "舞") == []
    heading, *lines = lost_lines(folder / "舞") or [""]
    if stdout in REASONS:
        assert (
            status == LOST_OUTPUT and heading == f"[stdout cannot be written: {REASONS[stdout]}; these lines are missing there]"
        )
    else:
        assert (status, heading) == (0, "")
        lines = output.splitlines()
    assert len(lines) == 3 and "3,522 parameters on cpu" in lines[0] and lines[1].startswith("epoch 1/1  train ")
    name = "\\u821e" if stdout in ("ascii", "cp1252") else "舞"
    assert lines[2].startswith("best validation ") and f"; the run is in {name}, its curves" in lines[2]


@pytest.mark.parametrize("kind", ["ascii", "closed", *(pytest.param(kind, marks=posix) for kind in ("full", "no reader"))])
def test_a_training_continues_whatever_its_output_is(undisturbed, tmp_path, monkeypatch, kind):
    """A name in Chinese characters once ended a run after its last epoch, a full disk behind stdout in its first one."""
    train_with(monkeypatch, undisturbed, tmp_path, kind, kind)


@pytest.mark.slow
@pytest.mark.parametrize("stderr", ["ascii", "closed", pytest.param("full", marks=posix)])
@pytest.mark.parametrize("stdout", KINDS)
def test_a_training_continues_with_each_pair_of_streams(undisturbed, tmp_path, monkeypatch, stdout, stderr):
    train_with(monkeypatch, undisturbed, tmp_path, stdout, stderr)


@pytest.mark.parametrize("kind", ["ascii", pytest.param("full", marks=posix)])
def test_a_test_writes_the_same_files_whatever_its_output_is(rendered, trained, tmp_path, monkeypatch, kind):
    def files(name: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (tmp_path / name).iterdir() if path.name != LOST_LINES}

    argv = ["--DR", rendered, "--ckpt_path", trained, "--device", "cpu", "--only", "0", "--save_root"]
    Tester.main([str(part) for part in [*argv, tmp_path / "plain"]])
    status, _ = run_with(monkeypatch, Tester.main, [*argv, tmp_path / "舞"], kind, kind)
    assert files("舞") == files("plain") and "scores.json" in files("plain")
    assert status == (LOST_OUTPUT if kind in REASONS else 0)
    assert any("results are in" in line for line in lost_lines(tmp_path / "舞")) == (kind in REASONS)


@pytest.mark.parametrize("stderr", KINDS)
@pytest.mark.parametrize("stdout", KINDS)
def test_a_tool_with_each_pair_of_streams(tmp_path, monkeypatch, stdout, stderr):
    """One of two runs has no epoch, which is a line on stderr."""
    monkeypatch.setattr("visualization.training_curves.draw_training", lambda runs, path, **_: path.touch())
    open_run_folder(tmp_path / "舞").add(metrics_row(0), {})
    open_run_folder(tmp_path / "空")
    argv = [tmp_path / "舞", tmp_path / "空", "--out", tmp_path / "舞.png"]
    status, output = run_with(monkeypatch, plot_curves.main, argv, stdout, stderr)
    assert (tmp_path / "舞.png").exists()
    assert status == (LOST_OUTPUT if {stdout, stderr} & {*REASONS} else 0)
    if output is not None:
        assert output.startswith("wrote ") and output.endswith(("舞.png\n", "\\u821e.png\n"))


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_keeps_its_status(tmp_path, monkeypatch, kind):
    assert run_with(monkeypatch, plot_curves.main, [tmp_path / "舞"], kind, kind)[0] == 1
    assert run_with(monkeypatch, plot_curves.main, ["--nowhere"], kind, kind)[0] == 2


REPORT = f'"{sys.executable}" "{ROOT / "tools" / "report.py"}" --help'


@posix
@pytest.mark.parametrize("command, status, errors", [
    (f"{REPORT} > /dev/full", LOST_OUTPUT, "stdout: {} lines could not be written (No space left on device)\n"),
    (f"{REPORT} >&-", LOST_OUTPUT, "stdout: {} lines could not be written (it is closed)\n"),
    (f"{REPORT} >&- 2>&-", LOST_OUTPUT, ""), (f"{REPORT} 2>&-", 0, ""), (f"{REPORT} > /dev/full 2> /dev/full", LOST_OUTPUT, ""),
    (f"{REPORT} <&-", 0, ""),
    (f"(sleep 0.05; trap '' PIPE; {REPORT}; echo $? > status) | true; exit $(cat status)", LOST_OUTPUT, ""),
])  # fmt: skip
def test_a_program_ends_quietly_and_with_its_status(tmp_path, command, status, errors):
    """At the exit, Python once printed "Exception ignored in" and returned 120, or 0 although nothing was printed.

    A reader that goes away, such as head, has seen enough; that is no news for the terminal.
    """
    run = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    lines = len(subprocess.run(["bash", "-c", REPORT], capture_output=True, text=True).stdout.splitlines())
    assert (run.returncode, run.stderr) == (status, errors.format(lines))


@posix
@pytest.mark.slow
@pytest.mark.parametrize("ending", ["> /dev/full 2> /dev/full", ">&- 2>&-", "| head -1"])
def test_a_whole_process_with_a_loader_process(rendered, tmp_path, ending):
    """A loader process inherits the streams, and flushes them when it starts and ends."""
    command = f'set -o pipefail; "{sys.executable}" "{ROOT / "Trainer.py"}" "$@" {ending}'
    argv = ["--DR", str(rendered), "--save_root", "run", *TINY, "--num_epoch", "2", "--epoch_size", "2", "--num_workers", "1"]
    run = subprocess.run(["bash", "-c", command, "bash", *argv], cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (LOST_OUTPUT, "")
    assert "best validation" in lost_lines(tmp_path / "run")[-1] and (tmp_path / "run" / "epoch=1.ckpt").exists()


class Failing(io.StringIO):
    """A stream whose writes fail while `full` is true."""

    full = True

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_only_the_lines_that_are_lost_are_recorded():
    stream, losses = Failing(), Losses()
    safe = SafeStream(stream, "stdout", losses)
    print("a", "b", sep="\n", file=safe)
    print("\rprogress 1%", end="", file=safe)  # of a progress bar, which is drawn again
    stream.full = False
    print("half a line, ", end="", file=safe)
    stream.full = True
    print("and its end", file=safe)
    stream.full = False
    print("c", file=safe)
    safe.finish()
    assert losses.unlogged == ["[stdout cannot be written: No space left on device; these lines are missing there]",
                               "a", "b", "half a line, and its end"]  # fmt: skip
    assert losses.counts == {"stdout": 3} and stream.getvalue() == "half a line, c\n"


def test_lost_lines_are_kept_until_there_is_a_log(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with capture_losses() as losses:
        print("early")
        keep_lost_lines_in(tmp_path / "nowhere")  # cannot be written yet
        print("later")
        (tmp_path / "nowhere").mkdir()
        print("last")
    assert lost_lines(tmp_path / "nowhere")[1:] == ["early", "later", "last"] and losses.counts == {"stdout": 3}
    with capture_losses() as losses:
        for number in range(2 * MOST_KEPT):
            print(number)
    assert len(losses.unlogged) == MOST_KEPT and losses.counts == {"stdout": 2 * MOST_KEPT}


def test_a_program_that_calls_another_one_reports_the_losses_of_both(monkeypatch):
    ends = []

    @one_line_errors
    def inner(argv):
        print("inner")

    @one_line_errors
    def outer(argv):
        inner([])
        ends.append("outer")

    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit) as stop:
        outer([])
    assert stop.value.code == LOST_OUTPUT and ends == ["outer"]
    assert sys.stdout is None


def test_a_character_outside_of_unicode_is_printed_as_an_escape(capsys):
    """The name of a file may contain any bytes; Python represents them by such characters."""

    @one_line_errors
    def main(argv):
        print("frame\udcff.png")

    main([])
    assert capsys.readouterr().out == "frame\\udcff.png\n"


def test_no_encoding_of_python_raises_an_error():
    """Text that an encoding lacks is written as escapes, in those that can write escapes at all."""
    written = 0
    for encoding in sorted({*encodings.aliases.aliases.values()}):
        buffer, losses = io.BytesIO(), Losses()
        try:
            stream = io.TextIOWrapper(buffer, encoding=encoding)
        except LookupError:  # not a text encoding
            continue
        print("frame 舞 é \udcff", file=SafeStream(stream, "stdout", losses))
        if not losses.counts:
            text = buffer.getvalue().decode(encoding)
            assert text.startswith("frame ") and ("舞" in text or "\\u821e" in text)
            written += 1
    assert written > 80


@posix
def test_lines_that_the_log_cannot_take_are_kept_for_the_next_time(tmp_path):
    """A full disk may be noticed only when the file is closed."""
    losses = Losses()
    losses.log = Path("/dev/full")
    losses.add("stdout", "a line", "No space left on device")
    losses.log = tmp_path / "log"
    losses.write_log()
    assert (tmp_path / "log").read_text().splitlines()[-1] == "a line"


def test_a_progress_bar_that_cannot_be_shown_is_no_lost_line_and_the_next_line_is(tmp_path):
    losses = Losses()
    stream = SafeStream(Failing(), "stderr", losses)
    for text in ("\r 50 %", "\r100 %", "\n"):
        stream.write(text)
    assert not losses.counts
    stream.write("\rreal line\n")
    stream.writelines(["more\n"])
    assert losses.counts["stderr"] == 2
