"""A report of one or several runs that can be shown and handed in: one page with all pictures inside, and the same as Markdown.

    python tools/report.py runs/cyclical runs/monotonic runs/none --out report

Runs that differ in nothing but the seed form a group: one colour, mean and standard deviation. The headings are the questions
of the course's report. What is written into report.md between its marks, in Markdown, is kept, and goes into report.html, the
next time.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.openmp  # noqa: F401  (must precede torch)

# isort: split
import io

import numpy as np
from tqdm import tqdm

from data.images import find_dataset
from runtime.cli import COUNT, Parser, location
from runtime.files import check_writable, write_whole
from tools.reporting.page import PICTURES, Frames, Picture, Player, Text, Tile, read_answers, write_html, write_markdown
from tools.reporting.runs import BASELINES, Group, Run, grouped, read_runs
from tools.reporting.sections import QUESTIONS, sections
from tools.reporting.videos import (
    Video,
    dips_and_peaks,
    encode,
    farthest_apart,
    frames_per_second,
    joined,
    side_by_side,
    sprite,
    stored,
)
from utils import UserError, one_line_errors
from visualization.plots import decibels, draw_frames, draw_psnr_of_groups, mean_of, mean_over_runs
from visualization.videos import save_gif

GIF_FPS = 10  # of the videos beside report.md, which would be many megabytes otherwise


def frame_curves(groups: list[Group], sequence: str) -> dict[str, np.ndarray]:
    """PSNR over the frames of a sequence, (runs, T) for each group that was tested."""
    return {group.name: np.stack([run.test.frames[sequence]["psnr"] for run in group.tested]) for group in groups if group.tested}


def moments(curves: dict[str, np.ndarray], given: int) -> dict[int, str]:
    """Frame numbers worth looking at: dips and peaks of the mean over all runs, and where the groups differ most."""
    # Each run's own mean off: where a low one has no score, the mean of the others would have a peak.
    courses = [values - mean_of(values) for values in np.concatenate(list(curves.values()))]
    found = {given + t: name for t, name in dips_and_peaks(mean_over_runs(np.stack(courses))).items()}
    apart = farthest_apart([mean_over_runs(values) for values in curves.values()])
    if apart is not None:
        found.setdefault(given + apart, "differ")
    return dict(sorted(found.items()))


def frames_block(sequence: str, videos: list[Video], marks: dict[int, str]) -> Frames:
    """The frames at these places, truth, pose and predictions beside each other."""
    rows, captions = {}, []
    for number, kind in marks.items():
        kind = {"dip": "a dip", "peak": "a peak", "differ": "where the settings differ most"}[kind]
        captions.append(["" if video.psnr is None else decibels(video.psnr[number]) for video in videos])
        rows[f"Frame {number}, {kind}"] = [
            Tile(video.name, caption, encode(stored(video.frames[number]), "PNG")) for video, caption in zip(videos, captions[-1])
        ]
    file = io.BytesIO()
    pictures = {f"frame {number}": [video.frames[number] for video in videos] for number in marks}
    draw_frames(pictures, [video.name for video in videos], captions, file)
    alt = f"frames of sequence {sequence} at dips and peaks of the PSNR: {', '.join(map(str, marks))}"
    return Frames(rows, Picture(f"frames_seq{sequence}.png", file.getvalue(), alt))


def player_block(sequence: str, videos: list[Video], chart: Picture | None, sides: tuple, *, given: int, fps: float) -> Player:
    """The videos in step with each other and with the chart."""
    tiles = []
    for video in videos:
        psnr = None if video.psnr is None else [round(value, 2) if np.isfinite(value) else None for value in video.psnr.tolist()]
        tiles.append(Tile(video.name, "", b"", sprite(video.frames), psnr))
    every = max(1, round(fps / GIF_FPS))
    return Player(f"sequence {sequence}", tiles, len(videos[0].frames), given, fps, chart, sides,
                  (f"video_seq{sequence}.gif", gif_bytes(joined(videos, every=every), fps / every)))  # fmt: skip


def gif_bytes(video, fps: float) -> bytes:
    """save_gif() into memory."""
    file = io.BytesIO()
    save_gif(file, video, fps=fps)
    return file.getvalue()


def sequence_blocks(groups: list[Group], sequence: str) -> list:
    """Chart, videos and frames of one sequence."""
    run = next(run for group in groups for run in group.runs if sequence in run.videos)
    videos = side_by_side(groups, sequence)
    tested = [group for group in groups if group.tested and sequence in group.tested[0].test.frames]
    chart, sides, marks = None, (), {}
    if tested:
        curves = frame_curves(tested, sequence)
        marks = moments(curves, run.given)
        chart, sides = psnr_chart(f"Sequence {sequence}", f"psnr_seq{sequence}.png", curves, tested[0].tested[0], sequence, marks)
    blocks = [player_block(sequence, videos, chart, sides, given=run.given, fps=frames_per_second(run))]
    return blocks + ([frames_block(sequence, videos, marks)] if marks else [])


def psnr_chart(
    title: str, name: str, curves: dict[str, np.ndarray], run: Run, sequence: str, marks: dict[int, str]
) -> tuple[Picture, tuple[float, ...]]:
    """The PSNR over the frames of a sequence, all runs over each other, and where its axes lie."""
    file = io.BytesIO()
    still = {title: run.test.frames[sequence][name] for name, title in BASELINES.items()}
    sides = draw_psnr_of_groups(curves, still, file, title=title, first=run.given, marks=marks)
    means = ", ".join(f"{group} {decibels(mean_of(values))}" for group, values in curves.items())
    return Picture(name, file.getvalue(), f"{title}, PSNR per frame; means: {means}"), sides


def earlier_answers(path: Path) -> dict[str, str]:
    """What was written into an earlier report.md. Raises UserError for a file from which it cannot be taken."""
    if not path.exists():
        return {}
    try:
        answers = read_answers(path.read_text(encoding="utf-8-sig"), QUESTIONS)
    except UnicodeDecodeError:
        answers = None
    if answers is None:
        raise UserError(f"{path}: lacks marks like <!-- your words: psnr -->, so what is written there might be lost; move it")
    return answers


def write_report(folder: Path, title: str, question: str, blocks: list) -> None:
    """report.html, report.md and its pictures; those of an earlier report are gone."""
    lead = [Text(question)] if question else []
    text, files = write_markdown(title, [*lead, *blocks])
    pictures = folder / PICTURES
    pictures.mkdir(exist_ok=True)
    for pattern in ("curve_*.png", "coins_*.png", "psnr_*.png", "frames_seq*.png", "video_seq*.gif"):
        for path in pictures.glob(pattern):
            if path.name not in files:
                path.unlink()
    for name, content in files.items():
        write_whole(pictures / name, content)
    write_whole(folder / "report.md", text)
    write_whole(folder / "report.html", write_html(title, lead, blocks))


def has_split(data: Path, split: str) -> bool:
    """Whether a data set is there, and has such a folder."""
    try:
        find_dataset(data, split)
    except (UserError, OSError):
        return False
    return True


def what_lacks(run: Run, split: str) -> Text | None:
    """What is to be said of a run's test, with the command that mends it; nothing if it is that of its best weights."""
    if not run.test and not run.videos:
        data = Path(str(run.flags.get("DR", "DATA")))
        if has_split(data, "train") and not has_split(data, split):
            return Text(f"{data} has no folder {split}/, so there are no test results.")
        return Text(f"{run.name} has no test results yet; this makes them:", run.test_command(split))
    tested = run.about.get("epoch") if run.about.get("checkpoint") == "best.ckpt" else None
    if not run.test or tested is None or run.best is None or tested == run.best[0] + 1:
        return None
    text = f"{run.name} was tested after epoch {tested}, and is better now after epoch {run.best[0] + 1}; this tests it anew:"
    return Text(text, run.test_command(split))


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Write report.html, one page with curves, scores and videos of several runs inside, and report.md.")
    parser.add_argument("runs", nargs="+", type=location, help="run folders; seeds of one setting become one group")
    parser.add_argument("--out", type=location, default=Path("report"), help="folder of the report; an earlier one is replaced")
    parser.add_argument("--title", default="Video prediction with a conditional VAE", help="title of the report")
    parser.add_argument("--question", default="", help="what the runs shall answer, which stands under the title")
    parser.add_argument("--split", default="test", help="folder of the runs with Tester.py's results, named as its --split")
    parser.add_argument("--show", type=COUNT, default=5, metavar="N", help="sequences that are shown, the first ones")
    args = parser.parse_args(argv)
    runs = read_runs(args.runs, args.split)
    check_writable(args.out, flag="--out")
    answers = earlier_answers(args.out / "report.md")
    groups = grouped(runs)
    names = list(dict.fromkeys(name for run in runs for name in run.videos))[: args.show]
    missing = [text for text in dict.fromkeys(what_lacks(run, args.split) for run in runs) if text]
    bar = tqdm(names, desc="sequences", leave=False, disable=None)
    shown = {name: sequence_blocks(groups, name) for name in bar}
    write_report(args.out, args.title, args.question, sections(groups, missing, shown, answers, args.out))
    for text in missing:
        print(f"{text.text} {text.code}".strip())
    counts = f"{len(runs)} run{'s' * (len(runs) > 1)} in {len(groups)} setting{'s' * (len(groups) > 1)}"
    print(f"wrote {args.out / 'report.html'} and report.md: {counts}, {len(shown)} sequences with videos")


if __name__ == "__main__":
    main()
