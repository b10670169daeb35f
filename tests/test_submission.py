"""submission.csv, ground truth in csv files, and the grader PSNR."""

import numpy as np
import pytest
import torch

from data.truth_csv import find_ground_truth, read_frames
from evaluation import submission
from evaluation.submission import grader_psnr, write_submission
from utils import UserError


def videos(*lengths: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (n, 3, 2, 4), dtype=np.uint8) for n in lengths]


def test_the_file_has_one_row_per_frame_in_channel_row_column_order(tmp_path):
    a, b = videos(3, 2)
    write_submission(tmp_path / "submission.csv", [a, b])
    lines = (tmp_path / "submission.csv").read_text().splitlines()
    assert lines[0] == "id," + ",".join(str(i) for i in range(24))
    assert len(lines) == 1 + 5 and [line.split(",")[0] for line in lines[1:]] == ["0", "1", "2", "3", "4"]
    fourth = [int(value) for value in lines[4].split(",")[1:]]
    assert fourth == [int(b[0, c, y, x]) for c in range(3) for y in range(2) for x in range(4)]


def test_the_file_is_checked_after_writing(tmp_path, monkeypatch):
    monkeypatch.setattr(submission, "read_frames", lambda path: np.zeros((3, 24), np.uint8))
    with pytest.raises(OSError, match="other values than were written"):
        write_submission(tmp_path / "submission.csv", videos(3))


def test_the_graders_file_is_read_with_its_usage_column(tmp_path):
    (video,) = videos(4)
    rows = [
        f"{i},{','.join(str(v) for v in frame.flatten())},{'Public' if i < 3 else 'Private'}" for i, frame in enumerate(video)
    ]
    (tmp_path / "gt.csv").write_text("\n".join(["id," + ",".join(map(str, range(24))) + ",Usage", *rows]) + "\n")
    truth = find_ground_truth(tmp_path, tmp_path / "gt.csv", {"0": 4}, height=2, width=4)
    assert np.array_equal(truth["0"].numpy(), video)


@pytest.mark.parametrize(
    "style", ["no header", "no header with id", "header", "index header", "number header", "byte order mark", "floats"]
)
def test_other_forms_of_the_same_table_are_read(tmp_path, style):
    (video,) = videos(3)
    values = video.reshape(3, -1)
    rows = [",".join(str(float(v) if style == "floats" else v) for v in row) for row in values]
    if style in ("no header with id", "index header"):
        rows = [f"{i},{row}" for i, row in enumerate(rows)]
    if style in ("header", "index header"):
        rows.insert(0, ("," if style == "index header" else "") + ",".join(f"p{i}" for i in range(24)))
    if style == "number header":
        rows.insert(0, ",".join(str(i) for i in range(24)))
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n", encoding="utf-8-sig" if style == "byte order mark" else "utf-8")
    assert np.array_equal(read_frames(tmp_path / "table.csv"), values)


def test_one_ground_truth_file_per_sequence_is_found(tmp_path):
    a, b = videos(3, 2)
    (tmp_path / "Demo_Test").mkdir()
    write_submission(tmp_path / "Demo_Test" / "GT0.csv", [a])
    write_submission(tmp_path / "Demo_Test" / "GT1.csv", [b])
    for root in (tmp_path, tmp_path / "LAB4_Dataset"):  # in the data set or next to it
        truth = find_ground_truth(root, None, {"0": 3, "1": 2, "2": 4}, height=2, width=4)
        assert list(truth) == ["0", "1"] and all(np.array_equal(truth[n].numpy(), v) for n, v in (("0", a), ("1", b)))
    assert find_ground_truth(tmp_path / "else" / "where", None, {"0": 3}, height=2, width=4) == {}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "id,0\n",
        "id,a\n0,hello\n",
        "id,0,1\n0,1,2\n1,3\n",
        "id,0,1,2\n0,1,2,3\n1,9,1,2,3\n",
        "id,0,1,2\n0,1,2,3#4\n",
        "id,0,1\n0,1,300\n",
        "id,0,1\n0,1,0.5\n",
    ],
)
def test_another_table_is_refused(tmp_path, content):
    """A row with one value too many was once read with every value shifted by one column."""
    (tmp_path / "gt.csv").write_text(content)
    with pytest.raises(UserError, match=r"gt\.csv"):
        find_ground_truth(tmp_path, tmp_path / "gt.csv", {"0": 1}, height=2, width=4)


@pytest.mark.parametrize("rows", ["1,2,3,x\n2,3,4,5\n", "1,2,3,x\n2,3,4,Public\n3,4,5,6\n", "id,0,1,2\n7,1,2,x\n"])
def test_text_in_place_of_the_last_value_is_refused(tmp_path, rows):
    """The text was once taken for a column like Usage, and the id for a pixel."""
    (tmp_path / "gt.csv").write_text(rows)
    with pytest.raises(UserError, match=r"gt\.csv: expected one row of integers"):
        read_frames(tmp_path / "gt.csv")


def test_ground_truth_of_another_size_is_refused_with_both_sizes(tmp_path):
    write_submission(tmp_path / "gt.csv", videos(3))
    with pytest.raises(UserError, match=r"expected 5 frames of 24 values \(3 x 2 x 4\), got 3 frames of 24"):
        find_ground_truth(tmp_path, tmp_path / "gt.csv", {"0": 2, "1": 3}, height=2, width=4)


def test_grader_psnr_of_frames_1_to_600_equals_a_computation_by_hand():
    """Frame 0 and frames 601 to 629 do not count. The mean is over rows, and the first three sequences are public."""
    truth = [np.full((630, 3, 2, 4), 100, np.uint8) for _ in range(5)]
    predicted = [video.copy() for video in truth]
    for i, video in enumerate(predicted):
        video[1:601] += np.uint8(i + 1)  # error of i + 1 gray levels
        video[0] = video[601:] = 255
    levels = [20 * np.log10(255 / (i + 1)) for i in range(5)]
    score = grader_psnr(predicted, truth)
    assert score.overall == pytest.approx(np.mean(levels), abs=1e-3)
    assert score.public == pytest.approx(np.mean(levels[:3]), abs=1e-3)
    assert score.private == pytest.approx(np.mean(levels[3:]), abs=1e-3)
    assert np.isnan(grader_psnr(predicted[:2], truth[:2]).private)
    only_fourth = grader_psnr(predicted, [None, None, None, truth[3], None])
    assert only_fourth.private == only_fourth.overall == pytest.approx(levels[3], abs=1e-3) and np.isnan(only_fourth.public)


def test_the_mean_is_over_rows_and_not_over_the_pooled_error():
    truth = torch.full((3, 3, 2, 4), 100, dtype=torch.uint8).numpy()
    predicted = truth.copy()
    predicted[1] += 1
    predicted[2] += 10
    expected = np.mean([20 * np.log10(255), 20 * np.log10(25.5)])
    assert grader_psnr([predicted], [truth]).overall == pytest.approx(expected, abs=1e-3)


IDS = {"integers": "{}", "floats": "{}.0", "quotes": '"{}"', "blanks": " {} ", "exponents": "{}e0"}


@pytest.mark.parametrize("notation", IDS)
@pytest.mark.parametrize("lengths", [(7,), (4, 3)], ids=["one sequence", "two sequences"])
def test_rows_in_another_order_are_sorted_by_their_ids(tmp_path, capsys, notation, lengths):
    """They were once scored as if they were in order: 42.1 instead of 58.9 dB."""
    truth, predicted = videos(*lengths), videos(*lengths, seed=1)
    rows = [",".join(map(str, frame.flatten())) for video in truth for frame in video]
    lines = [f"{IDS[notation].format(i)},{row},Public" for i, row in enumerate(rows)]
    header = "id," + ",".join(map(str, range(24))) + ",Usage"
    scores = []
    for order in (range(7), (3, 0, 6, 5, 1, 2, 4)):
        (tmp_path / "gt.csv").write_text("\n".join([header, *(lines[i] for i in order)]) + "\n")
        names = {str(i): length for i, length in enumerate(lengths)}
        found = find_ground_truth(tmp_path, tmp_path / "gt.csv", names, height=2, width=4)
        assert all(np.array_equal(found[str(i)].numpy(), video) for i, video in enumerate(truth))
        scores.append(grader_psnr(predicted, [found[name].numpy() for name in names])[:2])
    assert scores[0] == scores[1]
    notice = "the rows are not in the order of their ids; they are sorted by them"
    assert capsys.readouterr().err == f"{tmp_path / 'gt.csv'}: {notice}\n"


@pytest.mark.parametrize("first, header", [(0, None), (1, None), (630, "id,a,b,c"), (1, ",id,a,b,c"), (0, "id,Usage,a,b,c")])
def test_ids_may_begin_anywhere_and_have_other_columns_next_to_them(tmp_path, first, header):
    """The column called id counts, not an index that a program wrote before it."""
    rows = [f"{first + i},{10 + i},20,30" for i in (2, 0, 1)]
    if header and header.startswith(","):
        rows = [f"{place},{row}" for place, row in enumerate(rows)]
    if header and "Usage" in header:
        rows = [row.replace(",", ",Public,", 1) for row in rows]
    (tmp_path / "gt.csv").write_text("\n".join([*([header] if header else []), *rows]) + "\n")
    assert read_frames(tmp_path / "gt.csv").tolist() == [[10, 20, 30], [11, 20, 30], [12, 20, 30]]


@pytest.mark.parametrize("content, message", [
    ("id,0,1,2\n0,1,2,3\n1,1,2,3\n0,1,2,3\n", "expected each id once, got 0 in line 2 and in line 4; number the rows of all sequences 0, 1, 2, ..."),
    ("id,0,1,2\n0,1,2,3\n2,1,2,3\n", "expected consecutive ids, got none between 0 and 2; add the missing rows"),
    ("id,0,1,2\n0,1,2,3\n1.5,1,2,3\n", "line 3: expected an integer as the id, got '1.5'"),
    ("id,0,1,2\nfirst,1,2,3\n", "line 2: expected an integer as the id, got 'first'"),
    ("id,0,2,1\n0,1,2,3\n", "expected pixel columns in ascending order, got 1 after 2; sort them"),
    ("id,p0,p1,p10,p2,p3,p4\n0,1,2,3,4,5,6\n", "expected pixel columns in ascending order, got 2 after 10; sort them"),
    ("id,0,1,2\n0,1,nan,3\n", "expected one row of integers 0..255 per frame, got nan in line 2, column 3"),
    ("id,0,1,2\n0,1,2,3\n1,1,256,3\n", "expected one row of integers 0..255 per frame, got 256 in line 3, column 3"),
    ("id,0,1,2\n0,1,x,3\n", "expected one row of integers 0..255 per frame, got 'x' in line 2, column 3"),
    ("id,0,1,2\n", "expected one row of integers 0..255 per frame, got a header without rows"),
    ("", "expected one row of integers 0..255 per frame, got an empty file"),
    ("id,0,1,2\n0,1,2,3,4\n", "expected rows with 4 values as in the header, got rows with 5; correct the header"),
    ("id,0,1,2\n0,1,2,x\n", "expected one row of integers 0..255 per frame, got 2 after the id, which is not a multiple of the three channels"),
    ("1,2,3,x\n2,3,4,5\n", "expected one row of integers 0..255 per frame, got text and numbers in the last column"),
])  # fmt: skip
def test_each_fault_of_a_table_is_named(tmp_path, content, message):
    (tmp_path / "gt.csv").write_text(content)
    with pytest.raises(UserError) as raised:
        read_frames(tmp_path / "gt.csv")
    assert str(raised.value) == f"{tmp_path / 'gt.csv'}: {message}"


def test_pixel_columns_whose_last_numbers_repeat_are_in_the_order_of_the_file(tmp_path):
    """Names such as r0c0, r0c1, r1c0 do not count the columns."""
    (tmp_path / "gt.csv").write_text("id,r0c0,r0c1,r1c0\n0,1,2,3\n")
    assert read_frames(tmp_path / "gt.csv").tolist() == [[1, 2, 3]]
