"""Random tables, checkpoints and metrics: each one is read correctly, or refused with a UserError that names it."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.conditions import read_values
from data.truth_csv import read_frames
from tests.helpers.fuzzing import cases, damaged, end_of, outcome
from tests.helpers.runs import differences
from tools import plot_curves
from training.checkpoints import KEYS, load_checkpoint, model_from_checkpoint, serialize
from training.metrics_log import read_metrics
from utils import UserError

# Tables: the robot's actions, ground truth and submissions in csv files.

CELLS = st.floats(width=32).map(repr) | st.integers(-999, 999).map(str) | st.sampled_from(
    ["", " ", "nan", "-inf", "1e400", "1e39", "-3.5e38", "1e-400", "٣", "1_0", "0x1", '"1"', "1\0", "up", " 2 ", "1.", ".5", "1e", "+1", "²", "1,", "\t3"])  # fmt: skip
ENDS = st.sampled_from(["\n", "\r\n", "\n\n", "\r", " \n"])


def number(cell: str) -> float:
    """Return the cell, which may have quotes, as a number in single precision; nan if it is not a finite one.

    Digits of other scripts and 1_0 are numbers in Python, but in no table.
    """
    if not cell.strip().isascii() or "_" in cell:
        return math.nan
    try:
        with np.errstate(over="ignore"):
            value = np.float32(float(cell.removeprefix('"').removesuffix('"')))
    except ValueError:
        return math.nan
    return float(value) if np.isfinite(value) else math.nan


def test_random_tables_of_actions(fresh):
    folder = fresh()

    @cases(200)
    @given(
        st.integers(1, 4),
        st.lists(st.lists(CELLS, min_size=1, max_size=3), max_size=5),
        ENDS,
        st.booleans(),
        st.sampled_from([b"", b"\xef\xbb\xbf", b"\xff\xfe"]),
    )
    def check(frames, rows, end, closed, begin):
        path = folder / "actions.csv"
        text = end.join(",".join(row) for row in rows) + (end if closed else "")
        path.write_bytes(begin + text.encode())
        found, problems, _ = read_values(path, list(range(5, 5 + frames)))
        rows = [[number(cell) for cell in ",".join(row).split(",")] for row in rows if ",".join(row).strip()]
        good = (
            begin != b"\xff\xfe"
            and len(rows) == frames
            and len({len(row) for row in rows}) == 1
            and np.isfinite(np.concatenate(rows)).all()
        )
        assert (found is not None) == good == (not problems) and all(
            str(path) in problem and "\n" not in problem for problem in problems
        )
        if good:
            assert np.array_equal(found, np.array(rows, dtype=np.float32)) and found.dtype == np.float32

    check()


def test_tables_of_random_bytes(fresh):
    """Both readers read the table or refuse it."""
    path = fresh() / "table.csv"

    @cases(150)
    @given(
        st.binary(max_size=60)
        | st.text(st.sampled_from('0123456789.,-e\n\r"# \0naif\ufeff\u2028id'), max_size=60).map(str.encode)
    )
    def check(content):
        path.write_bytes(content)
        found, problems, _ = read_values(path, [0, 1])
        assert (found is None) == bool(problems) and (found is None or (len(found) == 2 and np.isfinite(found).all()))
        frames = outcome(lambda: read_frames(path))
        assert isinstance(frames, UserError) or (frames.dtype == np.uint8 and frames.size)

    check()


def test_random_ground_truth_and_submissions(fresh):
    """Every form of a table of frames gives the same frames; a damaged table is refused."""
    path = fresh() / "gt.csv"

    @cases(200)
    @given(st.data())
    def check(data):
        draw = data.draw
        count, width = draw(st.integers(1, 4)), 3 * draw(st.integers(1, 4))
        pixels = np.random.default_rng(draw(st.integers(0, 9))).integers(0, 256, (count, width)) * draw(st.integers(0, 1))
        own, usage = draw(st.booleans()), draw(st.booleans())
        form = draw(st.sampled_from(["{}", "{}.0", " {}", "{}e0", "+{}"]))
        rows = [[form.format(value) for value in row] for row in pixels]
        rows = [[*([str(i)] if own else []), *row, *(["Public"] if usage else [])] for i, row in enumerate(rows)]
        whole, has_header = draw(st.booleans()), draw(st.booleans())
        if not whole:
            place, column = draw(st.integers(0, count - 1)), draw(st.integers(0, width - 1)) + own
            if count == 1 and not has_header:  # a number and text as the last of 3 + 1 columns are a table without id, with Usage
                column = min(column, width - 1)
            faults = ["", "-1", "256", "0.5", "nan", "inf", "x", "1e400", '"1', "1\0", "#"]
            if count > 1:
                faults += [None, "7,7", "7,7,7,7"]
            fault = draw(st.sampled_from(faults))
            rows[place][column : column + 1] = [fault] if fault is not None else []
        header = [*(["id"] if own else []), *(f"p{i}" for i in range(width)), *(["Usage"] if usage else [])]
        rows = [header, *rows] if has_header else rows
        end = draw(st.sampled_from(["\n", "\r\n"]))
        path.write_text(
            end.join(map(",".join, rows)) + draw(st.sampled_from(["", end])),
            encoding=draw(st.sampled_from(["utf-8", "utf-8-sig"])),
            newline="",
        )
        found = outcome(lambda: read_frames(path))
        if whole:
            assert np.array_equal(found, pixels)
        else:  # or the table has another size; find_ground_truth() refuses that, because it knows the lengths
            assert str(path) in str(found) if isinstance(found, UserError) else found.shape != pixels.shape

    check()


# Checkpoints and metrics.

STATE = {"model_config": {"family": "pose_cvae", "frame_dim": 4, "label_dim": 4, "latent_dim": 1, "fused_dim": 8, "pose_window": 1,
                          "condition_mean": [0.5] * 3, "condition_scale": [1.0] * 3},
         "model": {"a": torch.arange(6.0)}, "ema": {"a": torch.ones(2, 3)}, "optimiser": {"state": {0: {"step": torch.tensor(3.0)}}}, "scaler": {},
         "epoch": 2, "step": 7, "best_psnr": 20.5, "flags": {"lr": 0.1, "amp": "none", "val_vi_len": None}, "versions": {"torch": "2"},
         "progress": {"clips": 3}, "data": ["abc", "def"], "history": [{"epoch": 1, "loss": 0.5}], "curves": [{"epoch": 0.5, "loss": 0.5}]}  # fmt: skip
assert STATE.keys() == KEYS.keys()
VALUES = st.sampled_from([None, True, -1, 0, 1, 7, 10**30, 2**63, 1.5, math.nan, "", "x", b"x", [], [1], {}, {"a": 1}, {1: 2}, (), torch.ones(2),
                          torch.tensor(2), [0.5] * 2, ["x"] * 3, "svg", "pose_cvae"])  # fmt: skip


def test_damaged_bytes_of_a_checkpoint(fresh):
    folder, whole = fresh(), bytes(serialize(STATE))
    path = folder / "last.ckpt"

    @cases(250)
    @given(st.data())
    def check(data):
        path.write_bytes(damaged(whole, data.draw))
        found = outcome(lambda: load_checkpoint(path))
        if isinstance(found, UserError):
            assert str(path) in str(found) and len(str(found).splitlines()) == 1
        else:
            assert not differences(STATE, {name: found[name] for name in STATE})

    check()


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_random_content_of_a_checkpoint(fresh):
    """The file is not damaged, but one of its values is random."""
    path = fresh() / "last.ckpt"

    @cases(150)
    @given(
        st.sampled_from(["format", *STATE]),
        st.sampled_from(list(STATE["model_config"])),
        VALUES,
        st.integers(0, 2),
        st.sampled_from([1, 2, 3]),
    )
    def check(name, size, value, depth, version):
        state = {"format": version} | STATE
        if depth:
            state[name] = value
        else:
            state["model_config"] = state["model_config"] | {size: value}
        torch.save(state if depth < 2 or name != "data" else value, path)
        found = outcome(lambda: load_checkpoint(path))
        if not isinstance(found, UserError):
            assert depth == 0 or isinstance(value, KEYS.get(name, int)) or version < 3
            found = outcome(lambda: model_from_checkpoint(found, path))
        assert isinstance(found, UserError) and str(path) in str(found)  # also for its weights, which do not fit a model

    check()


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just(10**400), lambda inside: st.lists(inside, max_size=3)
                    | st.dictionaries(st.sampled_from(["epoch", "loss", "val_psnr", "x"]), inside, max_size=3), max_leaves=5)  # fmt: skip
ROW = {"epoch": 0, "step": 2, "loss": 0.1, "mse": None, "forced": 1.0, "val_psnr": 20.0, "val_psnr_per_frame": [20.0, None, 21.0],
       "skipped": []}  # fmt: skip
LINES = st.builds(lambda row, name, value, much: json.dumps(row | ({name: value} if much else {})), st.just(ROW) | st.just({"epoch": 1}),
                  st.sampled_from(list(ROW)), JSON, st.booleans()) | JSON.map(json.dumps) | st.sampled_from(["", "[" * 100000, "1" * 5000, "{", "nan", "\xff"])  # fmt: skip


@pytest.mark.parametrize("drawn, count", [(False, 150), (True, 8)])
def test_random_metrics(fresh, drawn, count):
    """Each file has rows that can be plotted, or causes an error that names the file."""
    run = fresh() / "run"
    run.mkdir()
    path = run / "metrics.jsonl"

    @cases(count)
    @given(st.lists(LINES, max_size=4), st.integers(0, 400), st.sampled_from(["utf-8", "latin-1"]))
    def check(lines, cut, encoding):
        content = "".join(line + "\n" for line in lines).encode(encoding, "replace")
        path.write_bytes(content[: len(content) - cut] if cut < 100 else content)
        rows = outcome(lambda: read_metrics(path))
        assert str(path) in str(rows) if isinstance(rows, UserError) else all(isinstance(row["epoch"], int) for row in rows)
        if drawn:
            status, lines = end_of(plot_curves.main, [str(run), "--out", str(run / "curves.png")])
            assert status == (isinstance(rows, UserError) or not rows) and len(lines) == status, lines
            assert (run / "curves.png").exists() != status
            (run / "curves.png").unlink(missing_ok=True)

    check()
