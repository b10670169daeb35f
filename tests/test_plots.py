"""Plots: their lines, labels and axes, and values that are missing or not finite."""

import numpy as np
import pytest
from fontTools import fontBuilder
from fontTools.pens import ttGlyphPen
from matplotlib import font_manager
from matplotlib.text import Text
from PIL import Image

from tests.helpers.refusals import refused
from tests.helpers.runs import metrics_row, open_run_folder
from tools import plot_curves
from visualization import plots, training_curves


def axes_of(monkeypatch, draw) -> list:
    """Return the axes of the figure that draw() saves."""
    figures = []
    monkeypatch.setattr(plots.Figure, "savefig", lambda self, path: figures.append(self))
    draw()
    return figures[0].axes


def test_the_training_plot_shows_the_numbers_of_the_metrics(tmp_path, monkeypatch):
    rows = [metrics_row(e, val_psnr=20.0 + e, val_closing=19.0 + e, val_psnr_per_frame=[20.0 + e, 22.0 + e]) for e in range(3)]
    axes = axes_of(monkeypatch, lambda: training_curves.draw_training({"run": rows}, tmp_path / "x.png"))
    drawn = {ax.get_title(): [list(line.get_ydata()) for line in ax.lines] for ax in axes}
    assert drawn["Training loss"] == [[0.1, 0.05, 0.1 / 3]]
    assert drawn["Validation rollout"] == [[20, 21, 22], [19, 20, 21]]
    assert drawn["PSNR per frame, best epoch"] == [[22, 24]]
    assert all(ax.get_xlabel() and ax.get_ylabel() for ax in axes)
    assert "dB" in axes[6].get_ylabel() and "nats" in axes[2].get_ylabel()
    draws = axes[4].collections[0].get_offsets().tolist()
    assert draws == [[1, 0.5], [2, 0.5], [3, 0.5]]


def test_several_runs_differ_by_color_and_style(tmp_path, monkeypatch):
    runs = {kind: [metrics_row(e) for e in range(20)] for kind in ("Cyclical", "Monotonic", "None")}
    axes = axes_of(monkeypatch, lambda: training_curves.draw_training(runs, tmp_path / "x.png"))
    assert [line.get_label() for line in axes[0].lines] == list(runs)
    assert len({line.get_color() for line in axes[0].lines}) == len({line.get_linestyle() for line in axes[0].lines}) == 3


def test_a_group_is_drawn_as_thin_lines_and_a_thick_mean(tmp_path, monkeypatch):
    runs = {name: [metrics_row(e, val_psnr=20.0 + e + lift, val_psnr_per_frame=[lift, 2 * lift]) for e in range(epochs)]
            for name, lift, epochs in (("a1", 0, 3), ("a2", 1, 3), ("a3", 5, 2), ("b", 3, 3))}  # fmt: skip
    groups = {"a": ["a1", "a2", "a3"], "b": ["b"]}
    for panel, expected in ((training_curves.PANELS[6], [22, 23]), (training_curves.PANELS[7], [2, 4])):
        (ax,) = axes_of(monkeypatch, lambda panel=panel: training_curves.draw_one_panel(panel, runs, groups, tmp_path / "x.png"))
        seeds, mean, alone = ax.lines[:3], ax.lines[3], ax.lines[4]
        assert list(mean.get_ydata()) == expected  # over the epochs that all have
        assert {line.get_color() for line in [*seeds, mean]} == {plots.COLORS[0]} and alone.get_color() != plots.COLORS[0]
        assert all(line.get_linewidth() < mean.get_linewidth() for line in seeds)
        assert [text.get_text().split(" (")[0] for text in ax.get_legend().get_texts()] == ["a", "b"]


def test_a_loss_that_falls_below_zero_is_drawn_whole(tmp_path, monkeypatch):
    """With --distortion log_mse, the axis was once logarithmic if any value was positive, which hid the other values."""
    draw = lambda: training_curves.draw_training({"run": [metrics_row(0), metrics_row(1, loss=-0.1)]}, tmp_path / "x.png")  # noqa: E731
    assert [ax.get_yscale() for ax in axes_of(monkeypatch, draw)[:2]] == ["linear", "log"]


def test_the_chart_of_groups_returns_the_box_of_its_axes(tmp_path, monkeypatch):
    groups = {"a": np.array([[20.0, 22, 24], [22, 24, 26]]), "b": np.array([[30.0, np.nan, 30]])}
    still = {"copy": np.array([90.0, 10, 10])}
    sides = []
    (ax,) = axes_of(monkeypatch, lambda: sides.append(
        plots.draw_psnr_of_groups(groups, still, tmp_path / "x.png", title="one", first=5, marks={6: "dip"})))  # fmt: skip
    left, right, top, bottom, first, last = sides[0]
    assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1 and (first, last) == pytest.approx(ax.get_xlim(), abs=1e-3)
    means = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines}
    assert means["a, 23.00 dB"] == ([5, 6, 7], [21, 23, 25]) and "b, 30.00 dB" in means
    assert 30 < ax.get_ylim()[1] < 50  # a baseline that begins near infinity does not flatten the other curves


def test_missing_values_of_a_run_do_not_affect_the_mean_of_the_others(tmp_path, monkeypatch):
    """The mean of a group was once missing where one run had no value. Where no run has a value, the label is "no score"."""
    groups = {
        "a": np.array([[20.0, np.nan, 24], [22, 24, 26]]),
        "b": np.full((2, 3), np.nan),
        "c": np.array([[1.0, np.nan, 3], [3, np.nan, 5]]),
    }
    (ax,) = axes_of(
        monkeypatch, lambda: plots.draw_psnr_of_groups(groups, {}, tmp_path / "x.png", title="one", first=1, marks={})
    )
    means = {line.get_label(): line.get_ydata() for line in ax.lines if not line.get_label().startswith("_")}
    assert list(means) == ["a, 23.33 dB", "b, no score", "c, 3.00 dB"]
    assert (
        means["a, 23.33 dB"].tolist() == [21, 24, 25]
        and np.isnan(means["b, no score"]).all()
        and np.isnan(means["c, 3.00 dB"][1])
    )
    runs = {
        name: [metrics_row(0, val_psnr=20.0, val_psnr_per_frame=values)]
        for name, values in (("a1", [20.0, None, 24.0]), ("a2", [22.0, 24.0, 26.0]))
    }
    (ax,) = axes_of(
        monkeypatch,
        lambda: training_curves.draw_one_panel(training_curves.PANELS[7], runs, {"a": ["a1", "a2"]}, tmp_path / "x.png"),
    )
    assert list(ax.lines[2].get_ydata()) == [21, 24, 25]
    (ax,) = axes_of(
        monkeypatch, lambda: plots.draw_psnr_per_frame({"prediction": np.full(3, np.nan)}, tmp_path / "x.png", title="one")
    )
    assert ax.lines[0].get_label() == "prediction, mean no score"


def test_epochs_without_validation_and_missing_values_are_omitted(tmp_path):
    rows = [metrics_row(0), metrics_row(1, loss=None, kl=None), metrics_row(2, val_psnr=25.0)]
    training_curves.draw_training({"run": rows}, tmp_path / "training.png")
    training_curves.draw_training({"run": []}, tmp_path / "empty.png")
    plots.draw_psnr_per_frame({"prediction": np.array([20.0, np.inf])}, tmp_path / "frames.png", title="one")
    assert all(Image.open(tmp_path / f"{name}.png").size[0] > 500 for name in ("training", "empty", "frames"))


def test_frames_whose_psnr_is_not_finite_do_not_stop_the_drawing(tmp_path, monkeypatch):
    """One such frame became null in the row, and the plot after the epoch once ended the training with a TypeError."""
    rows = [metrics_row(0, val_psnr_per_frame=[None, 22.0, 24.0]), metrics_row(1, val_psnr_per_frame=[None, None])]
    axes = axes_of(monkeypatch, lambda: training_curves.draw_training({"run": rows}, tmp_path / "x.png"))
    (line,) = axes[7].lines
    assert line.get_ydata()[1:].tolist() == [22, 24] and "epoch 1" in line.get_label()


def test_a_name_with_dollar_signs_is_not_a_formula(tmp_path):
    """matplotlib reads text between two dollar signs as TeX. A training in run_$1_{$2 once ended when its first epoch was drawn."""
    rows = [metrics_row(0, val_psnr_per_frame=[20.0, 22.0])]
    training_curves.draw_training({"run_$1_{$2": rows}, tmp_path / "one.png")
    training_curves.draw_training({"run_$1_{$2": rows, "b": rows}, tmp_path / "two.png")
    plots.draw_psnr_per_frame({"prediction": np.array([20.0])}, tmp_path / "frames.png", title="run_$1_{$2")


def test_runs_are_compared_from_the_command_line(tmp_path, capsys):
    for name in ("a", "b"):
        open_run_folder(tmp_path / name).add(metrics_row(0), {})
    plot_curves.main([str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "comparison.png")])
    assert (tmp_path / "comparison.png").stat().st_size > 10_000
    assert "metrics.jsonl" in refused(capsys, plot_curves.main, [tmp_path / "nowhere"])
    assert "ends in .png" in refused(capsys, plot_curves.main, [tmp_path / "a", "--out", tmp_path / "comparison.xyz"])


def test_runs_of_the_same_name_are_all_drawn(tmp_path, monkeypatch):
    for name in ("a", "b"):
        open_run_folder(tmp_path / name / "run").add(metrics_row(0), {})
    drawn = {}
    monkeypatch.setattr(training_curves, "draw_training", lambda runs, path, **_: drawn.update(runs))
    plot_curves.main([str(tmp_path / "a" / "run"), str(tmp_path / "b" / "run")])
    assert list(drawn) == [str(tmp_path / "a" / "run"), str(tmp_path / "b" / "run")]


def test_a_run_that_is_passed_twice_is_refused(tmp_path, capsys):
    """Its curves were drawn once, as if nothing were wrong."""
    open_run_folder(tmp_path / "run").add(metrics_row(0), {})
    again = f"{tmp_path}/run/../run"
    assert refused(capsys, plot_curves.main, [tmp_path / "run", again]) == f"error: {again}: expected each run once, got it twice"


def test_runs_without_an_epoch_are_left_out_or_refused(tmp_path, capsys, monkeypatch):
    """An empty plot was written for them. Points within the first epoch are enough for a curve."""
    drawn = {}
    monkeypatch.setattr(
        training_curves, "draw_training", lambda runs, path, curves: drawn.update({"runs": runs, "curves": curves})
    )
    empty, started, full = (open_run_folder(tmp_path / name) for name in ("empty", "started", "full"))
    message = refused(capsys, plot_curves.main, [empty.folder])
    assert message == f"error: {empty.folder}: expected a run with at least one finished epoch, got none; train it further first"
    started.extend_curves([{"epoch": 0.5, "loss": 1.0}])
    started.write_rows()
    full.add(metrics_row(0), {})
    plot_curves.main([str(one.folder) for one in (empty, started, full)])
    assert capsys.readouterr().err == f"{empty.folder}: left out, because it has not finished an epoch\n"
    assert {name: len(rows) for name, rows in drawn["runs"].items()} == {"started": 0, "full": 1}
    assert {name: len(rows) for name, rows in drawn["curves"].items()} == {"started": 1, "full": 0}


@pytest.fixture
def other_font(tmp_path, monkeypatch) -> str:
    """Install a font with one Chinese character, a square; return the name of its family."""
    builder = fontBuilder.FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "dance"])
    builder.setupCharacterMap({ord("舞"): "dance"})
    pen = ttGlyphPen.TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 900), (900, 900), (900, 0)):
        pen.lineTo(corner)
    pen.closePath()
    builder.setupGlyf({".notdef": ttGlyphPen.TTGlyphPen(None).glyph(), "dance": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (500, 0), "dance": (1000, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Noto Sans CJK Test", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "font.ttf")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", font_manager.fontManager.ttflist.copy())
    font_manager.fontManager.addfont(tmp_path / "font.ttf")
    plots.other_fonts.cache_clear()
    yield "Noto Sans CJK Test"
    plots.other_fonts.cache_clear()


def draw_named(name: str, path) -> list[Text]:
    """Draw the curves of two runs, one of which has the name, and the PSNR of a sequence of that name; return their texts."""
    rows, texts = [metrics_row(0, val_psnr_per_frame=[20.0, 22.0])], []
    with pytest.MonkeyPatch.context() as patch:
        save = plots.Figure.savefig
        patch.setattr(plots.Figure, "savefig", lambda self, file: [texts.extend(self.findobj(Text)), save(self, file)])
        training_curves.draw_training({name: rows, "b": rows}, path)
        plots.draw_psnr_per_frame({name: np.array([20.0])}, path, title=name)
        plots.draw_frames({name: [np.zeros((4, 4, 3), np.uint8)]}, [name], [[name]], path)
    return texts


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("name, drawn", [("舞", r"\u821e"), ("a🎬b", r"a\U0001f3acb"), ("\x01", r"\x01"), ("été ß я", "été ß я")])
def test_characters_that_no_font_has_are_drawn_as_escapes(tmp_path, monkeypatch, name, drawn):
    """They were drawn as boxes, with a warning for each."""
    monkeypatch.setattr(plots, "OTHER_FONTS", ())
    plots.other_fonts.cache_clear()
    texts = [text.get_text() for text in draw_named(name, tmp_path / "x.png")]
    assert sum(text.startswith(drawn) for text in texts) > 5 and (tmp_path / "x.png").stat().st_size > 1000
    plots.other_fonts.cache_clear()


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_an_installed_font_draws_the_characters_that_the_usual_one_lacks(tmp_path, other_font, suffix):
    """In titles, labels and legends; only a character that this font lacks too is drawn as an escape."""
    texts = draw_named("舞 蹈", tmp_path / f"x.{suffix}")
    named = [text for text in texts if text.get_text().startswith(r"舞 \u8e48")]
    assert len(named) > 5 and all(text.get_fontfamily()[-1] == other_font for text in named)
    assert all(other_font not in text.get_fontfamily() for text in texts if text not in named)


def test_the_square_of_the_other_font_is_in_the_image(tmp_path, other_font):
    plots.draw_psnr_per_frame({"a": np.array([20.0])}, tmp_path / "x.png", title="舞")
    black = np.asarray(Image.open(tmp_path / "x.png").convert("L")) == 0
    frame_of_axes = np.flatnonzero(black.sum(axis=1) > 500)[0]
    rows, columns = np.nonzero(black[:frame_of_axes, 200:-200])
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert len(rows) == height * width > 100 and abs(height - width) <= 1
