"""The tables of a report: runs, settings and scores."""

from typing import Any

from tasks import DANCE
from tools.reporting.blocks import Block, Folded, Heading, Table
from tools.reporting.groups import Group, spread
from tools.reporting.runs import BASELINES, Run

# Titles and decimal places of columns of scores.csv.
MEASURES = {"psnr": ("PSNR, dB", 2), "channel_psnr": ("per-channel PSNR, dB", 2), "ssim": ("SSIM", 3),
            "closing": ("last-100-frame PSNR, dB", 2), "best_psnr": ("best-sample PSNR, dB", 2)}  # fmt: skip
GRADER_PARTS = ("overall", "public", "private")
MAX_ROWS = 12  # sequences that a table lists one by one
SPREAD = "; mean ± sample standard deviation over the n runs that differ only in the seed"
FEWER = "; a smaller n follows values that some of these runs lack"


def group_label(group: Group) -> str:
    """Return a group's name and its number of runs."""
    return f"{group.name} (n = {len(group.runs)})" if len(group.runs) > 1 else group.name


def cell(values: list[float | None], digits: int) -> str:
    """Return mean and deviation over the runs of a group, and the number of values if some runs lack one."""
    known = spread(values)
    return known.text(digits) + (f" (n = {known.runs})" if 0 < known.runs < len(values) else "")


def score_values(group: Group, sequence: str, measure: str) -> list[float | None]:
    """Return a column of scores.csv for each run of a group."""
    return [run.scores.means[sequence].get(measure) if run.scores else None for run in group.runs]


def grader_values(group: Group, part: str) -> list[float | None]:
    """Return a part of the grader PSNR for each run of a group."""
    return [run.scores.grader.get(part) if run.scores else None for run in group.runs]


def useful_measures(groups: list[Group]) -> list[str]:
    """Return the columns of scores.csv that are informative for these runs."""
    means = [mean for group in groups for run in group.tested_runs if run.scores for mean in run.scores.means.values()]
    if not means:
        return []
    measures = ["psnr"]
    if any(run.task is not DANCE for group in groups for run in group.runs):  # the measure of BAIR publications
        measures.append("channel_psnr")
    measures.append("ssim")
    if any(mean.get("closing") != mean["psnr"] for mean in means):  # equal where no sequence has more than 100 frames
        measures.append("closing")
    if any("best_psnr" in mean for mean in means):
        measures.append("best_psnr")
    return measures


def baseline_rows(groups: list[Group], columns: list[str], empty_columns: int) -> list[list[str]]:
    """Return the rows of both baselines in the first table; none without tests."""
    tested = [run.scores for group in groups for run in group.tested_runs if run.scores]
    rows = []
    for name, title in BASELINES.items() if tested else []:
        test = spread([tested[0].means["all"].get(name)]).text(2)
        validation = spread(last_value(groups, f"val_{name}")).text(2)
        rows.append([title, validation, *(test if column == "psnr" else "" for column in columns), *[""] * empty_columns])
    return rows


def last_value(groups: list[Group], name: str) -> list[float]:
    """Return, in a list, the newest value of a column of metrics.jsonl of the first run that has one; [] without any."""
    for group in groups:
        for run in group.runs:
            values = [row[name] for row in run.own_rows if row.get(name) is not None]
            if values:
                return values[-1:]
    return []


def overview(groups: list[Group]) -> list[Block]:
    """Return the first section: the mean scores of all settings and of the baselines."""
    columns, split = useful_measures(groups), groups[0].runs[0].results.name
    parts = []
    for part in GRADER_PARTS:
        if spread([value for group in groups for value in grader_values(group, part)]).runs:
            parts.append(part)
    header = ["setting", "validation PSNR, dB", *(f"{split} {MEASURES[name][0]}" for name in columns)]
    header += [f"grader PSNR ({part}), dB" for part in parts]
    rows = []
    for group in groups:
        best = cell([run.best[1] if run.best else None for run in group.runs], 2)
        means = [cell(score_values(group, "all", name), MEASURES[name][1]) for name in columns]
        rows.append([group_label(group), best, *means, *(cell(grader_values(group, part), 2) for part in parts)])
    rows += baseline_rows(groups, columns, len(parts))
    caption = f"Scores: the best validation of each run, and the {split} mean over all predicted frames of all sequences"
    if any(len(group.runs) > 1 for group in groups):
        caption += SPREAD
    if any("(n = " in value for row in rows for value in row[1:]):
        caption += FEWER
    return [Heading(2, "Results at a glance"), Table(caption, header, rows)]


def runs_table(runs: list[Run]) -> Table:
    """Return the table of all trainings."""
    rows = []
    for run in runs:
        best = f"{run.best[1]:.2f} (epoch {run.best[0] + 1})" if run.best else "-"
        test = spread([run.scores.means["all"].get("psnr") if run.scores else None]).text(2)
        done = f"{run.rows[-1]['epoch'] + 1} of {run.flags.get('num_epoch', '?')}"
        time = "-"
        if run.training_seconds is not None:
            minutes, seconds = divmod(int(run.training_seconds), 60)
            time = f"{minutes} min {seconds:02d} s"
        rows.append([run.name, str(run.flags["model"]), str(run.seed), done, time, best, test])
    split = runs[0].results.name
    header = ["run", "model", "seed", "epochs", "training time", "best validation PSNR, dB", f"{split} PSNR, dB"]
    return Table("Runs. Epochs are counted from 1; the training time excludes validation", header, rows)


def format_value(value: Any) -> str:
    """Return the value of a flag as text."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "not set"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def settings_tables(groups: list[Group], different: list[str], same: list[str]) -> list[Block]:
    """Return a table of the settings that differ, and a collapsed one of those that do not."""
    rows = [[name, format_value(groups[0].runs[0].settings.get(name))] for name in same]
    title = f"{len(rows)} settings that all runs share" if len(groups) > 1 else "All settings"
    folded = Folded(title, Table("Flags of Trainer.py, without those of the machine and paths", ["flag", "value"], rows))
    return [*(flags_table("Settings that differ", groups, different) if len(groups) > 1 else []), folded]


def flags_starting_with(groups: list[Group], prefixes: tuple[str, ...]) -> list[str]:
    """Return the names of the settings that start with one of the prefixes."""
    names = [name for group in groups for name in group.runs[0].settings if name.startswith(prefixes)]
    return list(dict.fromkeys(names))


def flags_table(caption: str, groups: list[Group], names: list[str]) -> list[Block]:
    """Return a table of these settings with a column per group; nothing without settings."""
    rows = [[name, *(format_value(group.runs[0].settings.get(name)) for group in groups)] for name in names]
    return [Table(caption, ["flag", *(group.name for group in groups)], rows)] if rows else []


def score_tables(groups: list[Group], shown: list[str]) -> list[Block]:
    """Return the scores by sequence: PSNR with the baselines, the other measures collapsed."""
    tested = [group for group in groups if group.tested_runs]
    if not tested:
        return []
    first_run = tested[0].tested_runs[0]
    first = first_run.scores
    assert first is not None  # a tested run has scores
    names, note = list(first.frames), ""
    if len(names) > MAX_ROWS:
        names = [name for name in shown if name in first.frames]
        note = f" (the first {len(names)} of {len(first.frames)} sequences)"
    tables = []
    for measure in useful_measures(groups):
        title, digits = MEASURES[measure]
        baselines = BASELINES if measure == "psnr" else {}
        rows = []
        for name in [*names, "all"]:
            cells = [cell(score_values(group, name, measure), digits) for group in tested]
            cells += [spread([first.means[name].get(baseline)]).text(digits) for baseline in baselines]
            rows.append(["mean of all" if name == "all" else name, *cells])
        header = ["sequence", *(group_label(group) for group in tested), *baselines.values()]
        tables.append(Table(f"{first_run.results.name} {title}, by sequence{note}", header, rows))
    return [tables[0], *(Folded(table.caption, table) for table in tables[1:])]


def listed(names: list[str], conjunction: str = "and") -> str:
    """Return the names as text: a, b and c."""
    *first, last = names
    return f"{', '.join(first)} {conjunction} {last}" if first else last
