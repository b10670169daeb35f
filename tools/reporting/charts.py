"""The training curves and the mean PSNR of a report."""

import io

import numpy as np

from tools.reporting.blocks import Figure, FigureRow
from tools.reporting.groups import Group
from tools.reporting.tables import listed
from utils import counted
from visualization.plots import draw_psnr_of_groups
from visualization.training_curves import PANELS, draw_one_panel


def training_curves(groups: list[Group], values: list[str], more: list[Figure] | None = None) -> FigureRow:
    """Return one chart per value with all runs, then the charts in `more`. Runs of a group share a color."""
    runs = [run for group in groups for run in group.runs]
    members = {group.name: [run.name for run in group.runs] for group in groups}
    curves = {run.name: run.curves for run in runs}
    charts = []
    for panel in PANELS:
        if panel.value in values:
            file = io.BytesIO()
            # The PSNR per frame is that of best.ckpt, which is from an epoch that was trained in this folder.
            rows = {run.name: run.own_rows if panel.value == "val_psnr_per_frame" else run.rows for run in runs}
            draw_one_panel(panel, rows, members, file, curves=curves)
            alt = f"{panel.title} by {panel.x}: {listed(list(members))}"
            charts.append(Figure(f"curve_{panel.value}.png", file.getvalue(), alt))
    return FigureRow([*charts, *(more or [])])


def common_limits(losses: list[float]) -> tuple[float, float] | None:
    """Return limits that make charts of these losses comparable; None if there are no losses, or all are equal."""
    if not losses:
        return None
    margin = 0.05 * (max(losses) - min(losses))
    lowest = min(losses) - margin if min(losses) < 0 else 0.97 * min(losses)  # above 0, for a logarithmic axis
    return (lowest, max(losses) + margin) if margin else None


def loss_with_draws(groups: list[Group]) -> list[Figure]:
    """Return a chart of the loss of each group's first run, with marks at the epochs that were mostly teacher-forced."""
    losses = []
    for group in groups:
        run = group.runs[0]
        losses += [row["loss"] for row in run.rows + run.curves if row.get("loss") is not None]
    limits = common_limits(losses)
    charts = []
    for i, group in enumerate(groups):
        run, file = group.runs[0], io.BytesIO()
        panel = PANELS[0]._replace(title=f"Loss and teacher forcing: {run.name}")
        draw_one_panel(panel, {run.name: run.rows}, {run.name: [run.name]}, file, limits=limits, curves={run.name: run.curves})
        alt = f"training loss of {run.name} by epoch, with marks at the epochs that were mostly teacher-forced"
        charts.append(Figure(f"coins_{i}.png", file.getvalue(), alt))
    return charts


def mean_psnr_chart(groups: list[Group]) -> list[Figure]:
    """Return a chart of the PSNR per frame, averaged over the test sequences; [] if there is only one sequence."""
    curves: dict[str, np.ndarray] = {}
    for group in groups:
        steps = [run.scores.steps for run in group.tested_runs if run.scores]
        if steps:
            curves[group.name] = np.stack(steps)
    tested = [run for group in groups for run in group.tested_runs if run.scores]
    count = len(tested[0].scores.frames) if tested and tested[0].scores else 0
    if count < 2:
        return []
    file = io.BytesIO()
    title = f"Mean of {counted(count, 'sequence')} ({tested[0].results.name})"
    draw_psnr_of_groups(curves, {}, file, title=title, first=tested[0].context, marks={}, size=(5, 3.4))
    return [Figure("psnr_mean.png", file.getvalue(), f"PSNR per frame, {title}: {listed(list(curves))}")]
