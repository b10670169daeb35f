"""metrics.jsonl and curves.jsonl: their rows, and lines that cannot be read."""

import json

import pytest

from tests.helpers.runs import metrics_row, open_run_folder
from training.metrics_log import read_curves, read_metrics
from utils import UserError, finite


def test_there_is_one_json_object_per_epoch_and_null_for_non_finite_numbers(tmp_path):
    run_folder = open_run_folder(tmp_path)
    run_folder.add(metrics_row(0, val_psnr=float("nan")), {})
    run_folder.add(metrics_row(1, val_psnr=20.0), {})
    assert [json.loads(line)["val_psnr"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [None, 20.0]


def test_only_a_last_line_may_be_half_written(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 0}\n{"epoch": 1, "lo')
    assert read_metrics(path) == [{"epoch": 0}]
    path.write_text('{"epoch": 0, \n{"epoch": 1}\n')
    with pytest.raises(UserError, match="line 1"):
        read_metrics(path)


@pytest.mark.parametrize("line", ["5", "null", "[1]", "{}", '{"epoch": "1"}', '{"epoch": 1, "loss": "low"}', '{"epoch": 1, "loss": [1]}',
                                  '{"epoch": 1, "loss": 1e400}', '{"epoch": 1, "skipped": [[1]]}', '{"epoch": 1' + "0" * 400 + "}"])  # fmt: skip
def test_a_line_that_is_not_a_row_is_named(tmp_path, line):
    """Such lines are valid JSON. Reading their epoch or drawing them once raised a KeyError, a TypeError or an OverflowError."""
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 0}\n' + line + "\n")
    with pytest.raises(UserError, match="line 2 is not a row"):
        read_metrics(tmp_path / "metrics.jsonl")


@pytest.mark.parametrize("line", [b"\xff\xfe", b"[" * 100000, b"1" * 5000])
def test_a_line_that_python_cannot_parse_is_named(tmp_path, line):
    """None of these raises a JSONDecodeError."""
    (tmp_path / "metrics.jsonl").write_bytes(b'{"epoch": 0}\n' + line + b'\n{"epoch": 1}\n')
    with pytest.raises(UserError, match="line 2 is not JSON"):
        read_metrics(tmp_path / "metrics.jsonl")


def test_numbers_that_are_not_finite_become_null_inside_lists_too():
    assert finite({"a": [1.0, float("inf")], "b": {"c": float("nan")}}) == {"a": [1.0, None], "b": {"c": None}}


def test_only_rows_of_curves_may_be_within_an_epoch(tmp_path):
    path = tmp_path / "curves.jsonl"
    assert read_curves(path) == []
    path.write_text('{"epoch": 0.25, "step": 3, "beta": 0.5, "kl": null}\n{"epoch": 1, "step": 12}\n{"epoch": 1.2')
    assert read_curves(path) == [{"epoch": 0.25, "step": 3, "beta": 0.5, "kl": None}, {"epoch": 1, "step": 12}]
    with pytest.raises(UserError, match="line 1 is not a row"):
        read_metrics(path)
    path.write_text('{"epoch": 0.25}\n{"epoch": "1"}\n')
    with pytest.raises(UserError, match="line 2 is not a row"):
        read_curves(path)
    for wrong in ("[1]", '{"beta": 1}', '{"epoch": "1"}', '{"epoch": null}', "x"):
        path.write_text(f'{{"epoch": 0.25}}\n{wrong}\n{{"epoch": 0.75}}\n')
        with pytest.raises(UserError, match="line 2 is not"):
            read_curves(path)
