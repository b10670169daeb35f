"""The sections of a report: the course's questions as headings, and under each what the runs can say."""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tasks import DANCE
from tools.reporting.page import Folded, Heading, Picture, Pictures, Table, Text, Words
from tools.reporting.runs import BASELINES, Group, Run, differences, spread
from visualization.plots import PANELS, draw_one_panel, draw_psnr_of_groups

# A question each for the student, by the name of its place in report.md.
QUESTIONS = {
    "introduction": "What is the task, which model solves it, and what is compared here?",
    "protocol": "How do training and testing go, step by step, and why so?",
    "reparameterisation": "Why is z sampled like this, and where in the code?",
    "teacher forcing": "Which teacher forcing strategy was chosen, and why?",
    "kl annealing": "What does the annealing ratio do, and which was chosen?",
    "ratio curve": "Where does the ratio fall, and what does the loss do there?",
    "loss curve": "How do the loss curves under the annealing kinds differ, and why?",
    "psnr": "Where is the PSNR low, where high? What do the frames there have in common?",
    "other": "What else was tried, and what did it change?",
}
MEASURES = {"psnr": ("PSNR, dB", 2), "channel_psnr": ("PSNR by channel, dB", 2), "ssim": ("SSIM", 3),
            "closing": ("last 100 frames, dB", 2), "best_psnr": ("best sample, dB", 2)}  # fmt: skip
KINDS = ("Monotonic", "Cyclical", "None")  # of KL annealing
FORCING, ANNEALING = ("tfr", "feedback"), ("kl_",)  # what the names of their flags begin with
MOST_ROWS = 12  # sequences that a table lists one by one


def sections(groups: list[Group], missing: list[Text], shown: dict[str, list], answers: dict[str, str], folder: Path) -> list:
    """All blocks of a report in `folder`; `shown` has those of each sequence."""
    runs = [run for group in groups for run in group.runs]

    def words(name: str) -> Words:
        return Words(name, QUESTIONS[name], answers.get(name, ""), folder)

    different, alike = differences(groups)
    other = [name for name in different if not name.startswith(FORCING + ANNEALING)]
    return [
        *overview(groups), *missing,
        Heading(2, "Introduction"), runs_table(runs), words("introduction"),
        Heading(2, "Implementation details"),
        Heading(3, "Training and testing protocol"), *settings_tables(groups, different, alike), protocol(runs),
        words("protocol"),
        Heading(3, "Reparameterisation trick"), Text(REPARAMETERISATION), words("reparameterisation"),
        Heading(3, "Teacher forcing strategy"), *flags_table("Flags of teacher forcing", groups, beginning(groups, FORCING)),
        words("teacher forcing"),
        Heading(3, "KL annealing ratio"), *flags_table("Flags of KL annealing", groups, beginning(groups, ANNEALING)),
        curves(groups, ["beta"]), words("kl annealing"),
        Heading(2, "Analysis and discussion"),
        Heading(3, "Teacher forcing ratio, and the loss beside it"), curves(groups, ["tfr"], coins(groups)), words("ratio curve"),
        Heading(3, "Loss curves under KL annealing: Monotonic, Cyclical, None"), kinds(runs),
        curves(groups, ["loss", "mse", "kl"]), words("loss curve"),
        Heading(3, "PSNR per frame, validation and test"), *score_tables(groups, list(shown)),
        curves(groups, ["val_psnr", "val_psnr_per_frame"], mean_chart(groups)), *about_videos(groups, shown),
        *(block for name, blocks in shown.items() for block in (Heading(4, f"Sequence {name}"), *blocks)), words("psnr"),
        Heading(3, "Other training strategies"), *flags_table("Other settings that differ", groups, other),
        curves(groups, ["lr"]), words("other"),
    ]  # fmt: skip


REPARAMETERISATION = ("z = mu + sigma * eps with eps from N(0, I), so that the gradient reaches mu and sigma: Gaussian.sample in "
                      "modules/gaussian.py. In a roll-out z is a sample of the prior, because the posterior would have to see "
                      "the frame that is predicted.")  # fmt: skip


def protocol(runs: list[Run]) -> Text:
    """How the scores come about, which is the same for all runs."""
    given = runs[0].given
    seen = "the first frame is given" if given == 1 else f"the first {given} frames are given"
    return Text(f"Validation and test are full roll-outs: {seen}, then the model sees its own predictions, and z is drawn from "
                "the prior, where the model has one. PSNR is taken per frame, on pixels in [0, 1], and averaged over the "
                "predicted frames.")  # fmt: skip


def counted(group: Group) -> str:
    """A group's name and how many runs it has."""
    return f"{group.name} (n = {len(group.runs)})" if len(group.runs) > 1 else group.name


def cell(values: list[float | None], digits: int) -> str:
    """Mean and deviation of a value for each run of a group, and of how many they are where it is not there for all."""
    found = spread(values)
    return found.text(digits) + (f" (n = {found.count})" if 0 < found.count < len(values) else "")


def scores(group: Group, sequence: str, measure: str) -> list[float | None]:
    """A column of scores.csv for each run."""
    return [run.test.means[sequence].get(measure) if run.test else None for run in group.runs]


def listed(names: Iterable[str]) -> str:
    """a, b and c."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def measures(groups: list[Group]) -> list[str]:
    """The columns of scores.csv that say something of these runs."""
    tests = [run.test for group in groups for run in group.tested]
    by_channel = any(run.task is not DANCE for group in groups for run in group.runs)  # what is published for BAIR
    means = [mean for test in tests for mean in test.means.values()]
    useful = {"psnr": True, "channel_psnr": by_channel, "ssim": True,
              "closing": any(mean.get("closing") != mean["psnr"] for mean in means),  # else no sequence is longer
              "best_psnr": any("best_psnr" in mean for mean in means)}  # fmt: skip
    return [name for name, wanted in useful.items() if wanted] if tests else []


def overview(groups: list[Group]) -> list:
    """The table that one looks at first: all settings with their mean scores beside the two still pictures."""
    columns, split = measures(groups), groups[0].runs[0].results.name
    tests = [run.test for group in groups for run in group.tested]
    parts = [part for part in ("overall", "public", "private") if any(np.isfinite(t.course.get(part, np.nan)) for t in tests)]
    header = ["setting", "validation PSNR, dB", *(f"{split} {MEASURES[name][0]}" for name in columns)]
    header += [f"course, {part}" for part in parts]
    rows = []
    for group in groups:
        best = cell([run.best[1] if run.best else None for run in group.runs], 2)
        means = [cell(scores(group, "all", name), MEASURES[name][1]) for name in columns]
        course = [cell([run.test.course.get(part) if run.test else None for run in group.runs], 2) for part in parts]
        rows.append([counted(group), best, *means, *course])
    for name, title in BASELINES.items() if tests else []:
        values = [spread([tests[0].means["all"].get(name)]).text(2) if column == "psnr" else "" for column in columns]
        rows.append([title, spread(last_values(groups, f"val_{name}")).text(2), *values, *("" for _ in parts)])
    several = any(len(group.runs) > 1 for group in groups)
    fewer = any("(n = " in value for row in rows for value in row[1:])
    caption = f"Scores: best validation of each run; {split}, mean over all predicted frames of all sequences"
    return [Heading(2, "Results at a glance"), Table(caption + SPREAD * several + FEWER * fewer, header, rows)]


SPREAD = "; mean ± sample standard deviation over the n runs that differ only in the seed"
FEWER = "; where fewer have a score, their number stands behind it"


def last_values(groups: list[Group], name: str) -> list[float]:
    """The newest value of a column of metrics.jsonl of the first run that has one."""
    found = ([row[name] for row in run.own if row.get(name) is not None] for group in groups for run in group.runs)
    return next(filter(None, found), [])[-1:]


def runs_table(runs: list[Run]) -> Table:
    """What was trained."""
    rows = []
    for run in runs:
        best = f"{run.best[1]:.2f} (epoch {run.best[0]})" if run.best else "-"
        test = spread([run.test.means["all"].get("psnr") if run.test else None]).text(2)
        done = f"{run.rows[-1]['epoch'] + 1} of {run.flags.get('num_epoch', '?')}"
        minutes = "-" if run.seconds is None else f"{int(run.seconds) // 60} min {int(run.seconds) % 60:02d} s"
        rows.append([run.name, str(run.flags["model"]), str(run.seed), done, minutes, best, test])
    header = ["run", "model", "seed", "epochs", "training time", "best validation, dB", f"{runs[0].results.name}, dB"]
    return Table("The runs. Epochs count from 0, as in metrics.jsonl; the training time is without validation", header, rows)


def as_text(value) -> str:
    """A flag's value."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return "not set" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def settings_tables(groups: list[Group], different: list[str], alike: list[str]) -> list:
    """What differs, and folded what does not."""
    same = [[name, as_text(groups[0].runs[0].settings.get(name))] for name in alike]
    folded = Folded(f"{len(same)} settings that all runs share" if len(groups) > 1 else "All settings",
                    Table("Flags of Trainer.py, the machine's and paths left out", ["flag", "value"], same))  # fmt: skip
    if len(groups) == 1:
        return [folded]
    return [*flags_table("Settings that differ", groups, different), folded]


def beginning(groups: list[Group], beginnings: tuple[str, ...]) -> list[str]:
    """The names of the settings that begin so."""
    return list(dict.fromkeys(name for group in groups for name in group.runs[0].settings if name.startswith(beginnings)))


def flags_table(caption: str, groups: list[Group], names: list[str]) -> list[Table]:
    """The settings of these names, a column for each group; nothing if there are none."""
    rows = [[name, *(as_text(group.runs[0].settings.get(name)) for group in groups)] for name in names]
    return [Table(caption, ["flag", *(group.name for group in groups)], rows)] if rows else []


def curves(groups: list[Group], values: list[str], more: Iterable[Picture] = ()) -> Pictures:
    """Curves of all runs over each other, those of a group in one colour."""
    runs = [run for group in groups for run in group.runs]
    members = {group.name: [run.name for run in group.runs] for group in groups}
    charts = []
    for panel in PANELS:
        if panel.value in values:
            file = io.BytesIO()
            rows = {run.name: run.own if panel.value == "val_psnr_per_frame" else run.rows for run in runs}  # of the best epoch
            draw_one_panel(panel, rows, members, file)
            alt = f"{panel.title} by {panel.x}: {listed(members)}"
            charts.append(Picture(f"curve_{panel.value}.png", file.getvalue(), alt))
    return Pictures([*charts, *more])


def coins(groups: list[Group]) -> list[Picture]:
    """The loss of each group's first run side by side, with the epochs that were mostly fed true frames marked."""
    charts, losses = [], [row["loss"] for group in groups for row in group.runs[0].rows if row.get("loss") is not None]
    margin = 0.05 * (max(losses, default=0.0) - min(losses, default=0.0))
    limits = (min(losses) - margin * (min(losses) < 0), max(losses) + margin) if margin else None
    for i, group in enumerate(groups):
        run, file = group.runs[0], io.BytesIO()
        panel = PANELS[0]._replace(title=f"Loss and coins: {run.name}")
        draw_one_panel(panel, {run.name: run.rows}, {run.name: [run.name]}, file, limits=limits)
        alt = f"training loss of {run.name}, epochs whose coins fell mostly on true frames marked"
        charts.append(Picture(f"coins_{i}.png", file.getvalue(), alt))
    return charts


def about_videos(groups: list[Group], shown: dict[str, list]) -> list[Text]:
    """What to know before one looks at them."""
    seeds = " Videos and frames are of the lowest seed of each setting." * any(len(group.runs) > 1 for group in groups)
    text = "In report.html the videos play side by side; a click into the chart, or the slider, shows any frame."
    return [Text(text + seeds)] if shown else []


def kinds(runs: list[Run]) -> Text:
    """Which kinds of annealing can be compared here, and which are missing."""
    present = {run.flags.get("kl_anneal_type") for run in runs}
    lacking = [kind for kind in KINDS if kind not in present]
    text = f"Here: {listed([kind for kind in KINDS if kind in present] or ['no known kind'])}."
    return Text(text + (f" Not among these runs: {listed(lacking)} (--kl_anneal_type)." if lacking else ""))


def score_tables(groups: list[Group], shown: list[str]) -> list:
    """Scores by sequence: PSNR beside the two still pictures, the other measures folded."""
    tested = [group for group in groups if group.tested]
    if not tested:
        return []
    first_run = tested[0].tested[0]
    first = first_run.test
    names = list(first.frames) if len(first.frames) <= MOST_ROWS else [name for name in shown if name in first.frames]
    left_out = f" (the first {len(names)} of {len(first.frames)} sequences)" if len(names) < len(first.frames) else ""
    tables = []
    for measure in measures(groups):
        title, digits = MEASURES[measure]
        stills = BASELINES if measure == "psnr" else {}
        rows = []
        for name in [*names, "all"]:
            cells = [cell(scores(group, name, measure), digits) for group in tested]
            cells += [spread([first.means[name].get(still)]).text(digits) for still in stills]
            rows.append(["mean of all" if name == "all" else name, *cells])
        header = ["sequence", *map(counted, tested), *stills.values()]
        tables.append(Table(f"{first_run.results.name}: {title}, by sequence{left_out}", header, rows))
    return [tables[0], *(Folded(table.caption, table) for table in tables[1:])]


def mean_chart(groups: list[Group]) -> list[Picture]:
    """PSNR of each step, mean over the test sequences; nothing for a single one."""
    tested = [group for group in groups if group.tested]
    if not tested or len(tested[0].tested[0].test.frames) < 2:
        return []
    file, count = io.BytesIO(), len(tested[0].tested[0].test.frames)
    curves = {group.name: np.stack([run.test.steps for run in group.tested]) for group in tested}
    split = tested[0].runs[0].results.name
    title = f"{split}, mean of {count} sequences"
    draw_psnr_of_groups(curves, {}, file, title=title, first=tested[0].runs[0].given, marks={}, size=(5, 3.4))
    return [Picture("psnr_mean.png", file.getvalue(), f"PSNR per frame, {title}: {listed(curves)}")]
