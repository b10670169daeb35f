"""The scores of a report: means over seeds, what is left out of them, and what is said of it."""
import json

import numpy as np
import pytest
from reports import copy_run, edit, table_of, write

pytestmark = pytest.mark.usefixtures("blank_charts")


def test_seeds_form_a_group_with_mean_and_sample_standard_deviation(tested, tmp_path):
    """Against numpy, from the scores of each run's own scores.json."""
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
        assert table_of(markdown, "sequence")["mean of all" if name == "all" else name] == expected
        assert expected[0] in page
    assert table_of(markdown, "sequence")["sequence"][:2] == ["cyclical (n = 3)", "none"]
    overview = table_of(markdown, "setting")
    assert [overview[row][overview["setting"].index("test PSNR, dB")] for row in list(overview)[2:]] == expected  # the last are of all sequences
    assert table_of(markdown, "flag") == {"flag": ["cyclical", "none"], "---": ["---:", "---:"], "kl_anneal_type": ["Cyclical", "None"]}
    assert "| seed |" not in markdown.split("<details>")[1] and "| lr | 0.003 |" in markdown
    assert "Not among these runs: Monotonic (--kl_anneal_type)" in markdown


def test_scores_that_are_not_finite_are_left_out(tested, tmp_path):
    """A prediction that is not a number anywhere has null for its scores."""
    run = copy_run(tested, tmp_path / "run")

    def spoil(content: dict) -> None:
        content["per_frame"]["0"]["psnr"] = [None] * 8
        content["sequences"][0]["psnr"] = content["sequences"][2]["psnr"] = None

    edit(run / "test" / "scores.json", spoil)
    page, markdown = write(run, out=tmp_path / "report")
    assert table_of(markdown, "sequence")["0"][0] == "-" and "nan" not in markdown.lower() and "NaN" not in page
