"""Training curves within an epoch: rows of curves.jsonl, drawn by the number of completed epochs."""

import io
import json

import numpy as np
import pytest
from matplotlib.axes import Axes

from tools import plot_curves
from visualization import plots, training_curves


@pytest.fixture
def figures(monkeypatch) -> list:
    """Return the list to which figures are added instead of being saved."""
    saved: list = []
    monkeypatch.setattr(plots.Figure, "savefig", lambda self, path: saved.append(self))
    return saved


def epoch_rows(count: int) -> list[dict]:
    """Return rows of metrics.jsonl with values that no fine row has."""
    values = {"loss": 7.0, "mse": 7.0, "kl": 7.0, "beta": 7.0, "tfr": 7.0, "lr": 7.0, "forced": 0.75}
    return [{"epoch": epoch, "val_psnr": 20.0 + epoch, "val_closing": 18.0 + epoch} | values for epoch in range(count)]


def fine_rows(epochs: int, *, lift: float = 0.0) -> list[dict]:
    """Return four rows per epoch of a run with one annealing cycle per epoch: beta is 0.25, 0.5, 0.75, 1, 0.25, ..."""
    rows = []
    for point in range(1, 4 * epochs + 1):
        done = point / 4
        beta = (done % 1 or 1.0) + lift
        rows.append(
            {"epoch": done, "beta": beta, "tfr": 1 / done, "lr": 0.1 * done, "loss": 2 / done, "mse": 1 / done, "kl": 3.0}
        )
    return rows


def curve(ax: Axes, i: int = 0) -> tuple[list[float], list[float]]:
    line = ax.lines[i]
    return np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()


def test_fine_rows_show_what_happens_within_an_epoch(figures, tmp_path):
    """With ten cycles in eleven epochs, the means of the epochs form a slow line from 0.45 to 0.54."""
    training_curves.draw_training({"run": epoch_rows(2)}, tmp_path / "x.png", curves={"run": fine_rows(2)})
    loss, mse, kl, beta, tfr, lr, *_ = figures[0].axes
    x = [0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
    assert curve(beta) == (x, [0.25, 0.5, 0.75, 1, 0.25, 0.5, 0.75, 1])
    assert curve(lr) == (x, pytest.approx([0.025, 0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2]))
    assert curve(tfr) == (x, pytest.approx([4, 2, 4 / 3, 1, 4 / 5, 4 / 6, 4 / 7, 0.5]))
    assert curve(loss) == (x, pytest.approx([8, 4, 8 / 3, 2, 8 / 5, 8 / 6, 8 / 7, 1]))
    assert curve(mse) == (x, pytest.approx([4, 2, 4 / 3, 1, 4 / 5, 4 / 6, 4 / 7, 0.5])) and curve(kl) == (x, [3] * 8)


def test_epochs_are_counted_from_1(figures, tmp_path):
    """The row of the first epoch is at x = 1, with and without fine rows. Validations have no fine rows."""
    for curves in (None, {}, {"run": []}, {"run": fine_rows(3)}):
        figures.clear()
        training_curves.draw_training({"run": epoch_rows(3)}, tmp_path / "x.png", curves=curves)
        axes = figures[0].axes
        assert curve(axes[6]) == ([1, 2, 3], [20, 21, 22]) and curve(axes[6], 1) == ([1, 2, 3], [18, 19, 20])
        if not (curves or {}).get("run"):
            assert all(curve(ax) == ([1, 2, 3], [7, 7, 7]) for ax in axes[:6])


def test_marks_of_an_epoch_are_at_its_middle_or_with_its_mean(figures, tmp_path):
    """The share of teacher-forced batches and the mean loss of the first epoch belong to x = 0 to 1."""
    for curves, x in ((None, [1, 2]), ({"run": fine_rows(2)}, [0.5, 1.5])):
        figures.clear()
        training_curves.draw_training({"run": epoch_rows(2)}, tmp_path / "x.png", curves=curves)
        loss, tfr = figures[0].axes[0], figures[0].axes[4]
        assert tfr.collections[0].get_offsets().tolist() == [[x[0], 0.75], [x[1], 0.75]]
        assert loss.collections[0].get_offsets().tolist() == [[x[0], 7], [x[1], 7]]


def test_runs_of_an_earlier_version_are_drawn_next_to_new_ones(figures, tmp_path):
    training_curves.draw_training({"old": epoch_rows(2), "new": epoch_rows(2)}, tmp_path / "x.png", curves={"new": fine_rows(2)})
    beta = figures[0].axes[3]
    assert curve(beta) == ([1, 2], [7, 7]) and len(curve(beta, 1)[0]) == 8
    assert [line.get_label() for line in beta.lines] == ["old", "new"]


def test_values_that_fine_rows_lack_come_from_the_epochs(figures, tmp_path):
    """A null is a value that was not finite. A whole column may also be missing."""
    fine = [row | {"loss": None if row["epoch"] == 0.5 else row["loss"]} for row in fine_rows(2)]
    for row in fine:
        del row["kl"]
    training_curves.draw_training({"run": epoch_rows(2)}, tmp_path / "x.png", curves={"run": fine})
    loss, _, kl, *_ = figures[0].axes
    assert curve(loss)[0] == [0.25, 0.75, 1, 1.25, 1.5, 1.75, 2] and curve(kl) == ([1, 2], [7, 7])


def test_the_mean_of_a_group_is_taken_at_the_points_that_all_have(figures):
    """The second seed was stopped after its first epoch. If one run of a group has no fine rows, the group is drawn by epochs."""
    runs, groups = {name: epoch_rows(2) for name in ("a1", "a2")}, {"a": ["a1", "a2"]}
    curves = {"a1": fine_rows(2), "a2": fine_rows(1, lift=0.5)}
    training_curves.draw_one_panel(training_curves.PANELS[3], runs, groups, io.BytesIO(), curves=curves)
    (ax,) = figures[0].axes
    first, second, mean = (curve(ax, i) for i in range(3))
    assert len(first[0]) == 8 and second == ([0.25, 0.5, 0.75, 1], [0.75, 1, 1.25, 1.5])
    assert mean == ([0.25, 0.5, 0.75, 1], [0.5, 0.75, 1, 1.25])
    training_curves.draw_one_panel(training_curves.PANELS[3], runs, groups, io.BytesIO(), curves={"a1": fine_rows(2)})
    assert all(curve(figures[1].axes[0], i) == ([1, 2], [7, 7]) for i in range(3))


def test_plot_curves_reads_curves_jsonl_if_a_run_has_one(figures, tmp_path):
    """Its last line may be half written, as a killed run leaves it."""
    for name, fine in (("old", None), ("new", fine_rows(2))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in epoch_rows(2)))
        if fine:
            lines = "".join(json.dumps(row) + "\n" for row in fine)
            (tmp_path / name / "curves.jsonl").write_text(lines + '{"epoch": 2.25, "be')
    plot_curves.main([str(tmp_path / "old"), str(tmp_path / "new"), "--out", str(tmp_path / "x.png")])
    beta = figures[0].axes[3]
    assert curve(beta) == ([1, 2], [7, 7])
    assert curve(beta, 1) == ([row["epoch"] for row in fine_rows(2)], [row["beta"] for row in fine_rows(2)])
