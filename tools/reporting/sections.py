"""The sections of a report: the headings of the course's report, and below each what the runs show."""

from pathlib import Path

from tools.reporting.answers import QUESTIONS, Answer
from tools.reporting.blocks import Block, Heading, Text
from tools.reporting.charts import loss_with_draws, mean_psnr_chart, training_curves
from tools.reporting.groups import Group, split_settings
from tools.reporting.runs import Run
from tools.reporting.tables import flags_starting_with, flags_table, listed, overview, runs_table, score_tables, settings_tables

KL_ANNEALING_TYPES = ("Monotonic", "Cyclical", "None")
# The beginnings of the names of flags.
TEACHER_FORCING_FLAGS, KL_FLAGS = ("tfr", "feedback"), ("kl_",)
REPARAMETERIZATION = ("z = mu + sigma * eps with eps from N(0, I), so that gradients reach mu and sigma: Gaussian.sample in "
                      "modules/gaussian.py. In a rollout, z is a sample of the prior, because the posterior would need the frame "
                      "that is being predicted.")  # fmt: skip


def report_sections(
    groups: list[Group], notes: list[Text], sequences: dict[str, list[Block]], answers: dict[str, str], folder: Path
) -> list[Block]:
    """Return all blocks of a report in `folder`; `sequences` has the blocks of each sequence."""
    texts = {name: Answer(name, answers.get(name, ""), folder) for name in QUESTIONS}
    runs = runs_table([run for group in groups for run in group.runs])
    introduction: list[Block] = [Heading(2, "Introduction"), runs, texts["introduction"]]
    return [
        *overview(groups),
        *notes,
        *introduction,
        *implementation_section(groups, texts),
        *analysis_section(groups, sequences, texts),
    ]


def implementation_section(groups: list[Group], answers: dict[str, Answer]) -> list[Block]:
    """Return the course's second section: protocol, reparameterization, teacher forcing and KL annealing."""
    different, same = split_settings(groups)
    return [
        Heading(2, "Implementation details"),
        Heading(3, "Training and testing protocol"),
        *settings_tables(groups, different, same),
        protocol(groups[0].runs[0]),
        answers["protocol"],
        Heading(3, "Reparameterization trick"),
        Text(REPARAMETERIZATION),
        answers["reparameterisation"],
        Heading(3, "Teacher forcing strategy"),
        *flags_table("Flags of teacher forcing", groups, flags_starting_with(groups, TEACHER_FORCING_FLAGS)),
        answers["teacher forcing"],
        Heading(3, "KL annealing ratio"),
        *flags_table("Flags of KL annealing", groups, flags_starting_with(groups, KL_FLAGS)),
        training_curves(groups, ["beta"]),
        answers["kl annealing"],
    ]


def analysis_section(groups: list[Group], sequences: dict[str, list[Block]], answers: dict[str, Answer]) -> list[Block]:
    """Return the course's third section: curves, scores and videos."""
    different, _ = split_settings(groups)
    other = [name for name in different if not name.startswith(TEACHER_FORCING_FLAGS + KL_FLAGS)]
    videos: list[Block] = []
    for name, blocks in sequences.items():
        videos += [Heading(4, f"Sequence {name}"), *blocks]
    return [
        Heading(2, "Analysis and discussion"),
        Heading(3, "Teacher forcing ratio and loss"),
        training_curves(groups, ["tfr"], loss_with_draws(groups)),
        answers["ratio curve"],
        Heading(3, "Loss curves with KL annealing: Monotonic, Cyclical, None"),
        annealing_types([run for group in groups for run in group.runs]),
        training_curves(groups, ["loss", "mse", "kl"]),
        answers["loss curve"],
        Heading(3, "PSNR per frame, validation and test"),
        *score_tables(groups, list(sequences)),
        training_curves(groups, ["val_psnr", "val_psnr_per_frame"], mean_psnr_chart(groups)),
        *video_notes(groups, sequences),
        *videos,
        answers["psnr"],
        Heading(3, "Other training strategies"),
        *flags_table("Other settings that differ", groups, other),
        training_curves(groups, ["lr"]),
        answers["other"],
    ]


def protocol(run: Run) -> Text:
    """Return how scores are computed, which is the same for all runs."""
    context = "the first frame" if run.context == 1 else f"the first {run.context} frames"
    return Text(f"Validation and test are full rollouts. The model gets {context} of a sequence, then its own predictions are "
                "fed back. If it has a prior, z is sampled from it. PSNR is computed for each frame, on pixels in [0, 1], and "
                "averaged over the predicted frames.")  # fmt: skip


def annealing_types(runs: list[Run]) -> Text:
    """Return which types of KL annealing the runs use, and which none of them uses."""
    used = {run.flags.get("kl_anneal_type") for run in runs}
    present = [name for name in KL_ANNEALING_TYPES if name in used]
    missing = [name for name in KL_ANNEALING_TYPES if name not in used]
    text = f"These runs use {listed(present)}." if present else "The annealing type of these runs is unknown."
    return Text(text + (f" No run uses {listed(missing, 'or')} (--kl_anneal_type)." if missing else ""))


def video_notes(groups: list[Group], sequences: dict[str, list[Block]]) -> list[Block]:
    """Return how to use the videos, and which runs they show; nothing without videos."""
    if not sequences:
        return []
    text = "In report.html, the videos play in sync. Click the chart or drag the slider to show any frame."
    if any(len(group.runs) > 1 for group in groups):
        text += " Videos and frames show the lowest seed of each setting."
    return [Text(text)]
