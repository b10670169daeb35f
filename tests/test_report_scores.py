"""The scores of a report: means over seeds, and missing values."""

import json
import re

import numpy as np
import pytest

from tests.helpers.reports import copy_run, edit, read_table, write

pytestmark = pytest.mark.usefixtures("blank_charts")


def test_seeds_form_a_group_with_mean_and_sample_standard_deviation(tested, tmp_path):
    """The expected values are computed with NumPy from the scores.json of each run."""
    lifts = [0.0, 1.3, 0.4]
    runs = [copy_run(tested, tmp_path / f"cyclical_seed{n + 1}", better=lift, seed=n + 1) for n, lift in enumerate(lifts)]
    runs.append(copy_run(tested, tmp_path / "none", better=5, kl_anneal_type="None"))
    page, markdown = write(*runs, out=tmp_path / "report")
    for name in ("0", "1", "all"):
        scores = [json.loads((run / "test" / "scores.json").read_text())["sequences"] for run in runs]
        found = [next(row for row in rows if row["sequence"] == name) for rows in scores]
        three = [row["psnr"] for row in found[:3]]
        expected = [f"{np.mean(three):.2f} ± {np.std(three, ddof=1):.2f}", f"{found[3]['psnr']:.2f}", f"{found[0]['copy']:.2f}",
                    f"{found[0]['background']:.2f}"]  # fmt: skip
        assert read_table(markdown, "sequence")["mean of all" if name == "all" else name] == expected
        assert expected[0] in page
    assert read_table(markdown, "sequence")["sequence"][:2] == ["cyclical (n = 3)", "none"]
    overview = read_table(markdown, "setting")
    assert [
        overview[row][overview["setting"].index("test PSNR, dB")] for row in list(overview)[2:]
    ] == expected  # those of all sequences
    assert read_table(markdown, "flag") == {
        "flag": ["cyclical", "none"],
        "---": ["---:", "---:"],
        "kl_anneal_type": ["Cyclical", "None"],
    }
    assert "| seed |" not in markdown.split("<details>")[1] and "| lr | 0.003 |" in markdown
    assert "a smaller n after a value" not in markdown
    assert "No run uses Monotonic (--kl_anneal_type)" in markdown


def test_non_finite_scores_are_excluded(tested, tmp_path):
    """The scores of a prediction that is NaN everywhere are null."""
    run = copy_run(tested, tmp_path / "run")

    def spoil(content: dict) -> None:
        content["per_frame"]["0"]["psnr"] = [None] * 8
        content["sequences"][0]["psnr"] = content["sequences"][2]["psnr"] = None

    edit(run / "test" / "scores.json", spoil)
    page, markdown = write(run, out=tmp_path / "report")
    assert read_table(markdown, "sequence")["0"][0] == "-" and "nan" not in markdown.lower() and "NaN" not in page


def test_one_run_without_scores_does_not_affect_the_others(tested, tmp_path):
    """Non-finite frames of one seed once removed means, dips and peaks of all runs, and the report printed "nan dB"."""
    runs = [copy_run(tested, tmp_path / f"a_seed{n}", better=n, seed=n) for n in (1, 2, 3)]
    other = copy_run(tested, tmp_path / "other", kl_anneal_type="None")
    scores = [json.loads((run / "test" / "scores.json").read_text()) for run in runs]
    low = int(np.argmin(scores[0]["per_frame"]["0"]["psnr"]))

    def spoil(content: dict) -> None:
        content["per_frame"]["0"]["psnr"][low] = None
        content["sequences"][0]["psnr"] = content["sequences"][2]["psnr"] = None

    edit(runs[0] / "test" / "scores.json", spoil)
    page, markdown = write(*runs, other, out=tmp_path / "report")
    two = [content["sequences"][0]["psnr"] for content in scores[1:]]
    assert read_table(markdown, "sequence")["0"][0] == f"{np.mean(two):.2f} ± {np.std(two, ddof=1):.2f} (n = 2)"
    assert read_table(markdown, "sequence")["sequence"][0] == "a (n = 3)"
    overview = read_table(markdown, "setting")
    assert overview["a (n = 3)"][1].endswith(" (n = 2)") and "n = " not in overview["a (n = 3)"][2]
    shown = re.findall(rf"<h5>Frame {low + 1}: dip</h5>(.*?)</div></div>", page.split(">Sequence 1</h4>")[0], flags=re.DOTALL)
    assert len(shown) == 1 and shown[0].count(" dB</span>") == 1 and "no score</span>" in shown[0]
    assert "nan" not in markdown.lower() and "nan dB" not in page and "a smaller n after a value" in markdown
