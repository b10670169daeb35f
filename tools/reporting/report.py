"""Make a report: read the runs, draw the charts, keep the answers of an earlier report, and write the files."""

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from data.images import find_dataset
from runtime.files import check_writable, write_whole
from tools.reporting.answers import BEGIN_MARK, read_answers
from tools.reporting.blocks import IMAGE_FOLDER, Block, Text
from tools.reporting.groups import add_compared_flags, group_runs
from tools.reporting.page import render_html, render_markdown
from tools.reporting.runs import Run, read_runs
from tools.reporting.sections import report_sections
from tools.reporting.sequences import sequence_blocks
from utils import UserError, counted

IMAGE_PATTERNS = ("curve_*.png", "coins_*.png", "psnr_*.png", "frames_seq*.png", "video_seq*.gif")  # of a report's images


def make_report(
    folders: Sequence[Path], out: Path, *, title: str, question: str = "", split: str = "test", show: int = 5
) -> None:
    """Write the report on some run folders to `out`, and print a summary. Raises UserError for runs that are not comparable.

    `split` is the name of the results folder in each run. `show` is the number of sequences with videos.
    """
    runs = add_compared_flags(read_runs(list(folders), split))
    check_writable(out, flag="--out")
    answers = read_earlier_answers(out / "report.md")
    groups = group_runs(runs)
    names = list(dict.fromkeys(name for run in runs for name in run.videos))[:show]
    notes: list[Text] = []
    for run in runs:
        note = missing_test_note(run, split)
        if note and note not in notes:
            notes.append(note)
    bar = tqdm(names, desc="sequences", leave=False, disable=None)
    sequences = {name: sequence_blocks(groups, name) for name in bar}
    write_report(out, title, question, report_sections(groups, notes, sequences, answers, out))
    for note in notes:
        print(f"{note.text} {note.code}".strip())
    counts = f"{len(runs)} run{'s' * (len(runs) > 1)} in {len(groups)} setting{'s' * (len(groups) > 1)}"
    print(f"wrote {out / 'report.html'} and report.md: {counts}, {counted(len(sequences), 'sequence')} with videos")


def read_earlier_answers(path: Path) -> dict[str, str]:
    """Return the answers in an earlier report.md, {} without one. Raises UserError if its marks are damaged."""
    if not path.exists():
        return {}
    try:
        answers = read_answers(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        answers = None
    if answers is None:
        mark = BEGIN_MARK.format("psnr")
        raise UserError(
            f"{path}: expected marks like {mark} around every answer, got missing or repeated marks; move the file, or "
            "its answers would be lost"
        )
    return answers


def write_report(folder: Path, title: str, question: str, blocks: Sequence[Block]) -> None:
    """Write report.html, report.md and its images; remove the images of an earlier report."""
    lead = [Text(question)] if question else []
    text, files = render_markdown(title, [*lead, *blocks])
    images = folder / IMAGE_FOLDER
    images.mkdir(exist_ok=True)
    for pattern in IMAGE_PATTERNS:
        for path in images.glob(pattern):
            if path.name not in files:
                path.unlink()
    for name, content in files.items():
        write_whole(images / name, content)
    write_whole(folder / "report.md", text)
    write_whole(folder / "report.html", render_html(title, lead, blocks))


def has_split(data: Path, split: str) -> bool:
    """Return whether a data set exists and has this split."""
    try:
        find_dataset(data, split)
    except (UserError, OSError):
        return False
    return True


def missing_test_note(run: Run, split: str) -> Text | None:
    """Return a note on a missing or outdated test, with the command that runs it; None if the best weights were tested."""
    if not run.scores and not run.videos:
        data = Path(str(run.flags.get("DR", "DATA")))
        if has_split(data, "train") and not has_split(data, split):
            return Text(f"{data} has no folder {split}/, so there are no test results.")
        return Text(f"{run.name} has no test results yet. To create them, run:", run.test_command(split))
    tested = run.test_settings.get("epoch") if run.test_settings.get("checkpoint") == "best.ckpt" else None
    if not run.scores or tested is None or run.best is None or tested == run.best[0] + 1:
        return None
    text = f"{run.name} was tested after epoch {tested}, but its best validation is now that of epoch {run.best[0] + 1}."
    return Text(f"{text} To test it again, run:", run.test_command(split))
