"""Keypoint files of all formats with one fault: refused in one line, or every other frame has exactly its keypoints."""

import json
import math
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poses.keypoint_csv import csv_header
from poses.keypoint_files import COCO, OPENPOSE, read_keypoints
from poses.skeleton import JOINTS, poses_from_points
from tests.helpers.fuzzing import cases, damaged, outcome
from utils import UserError

COUNT = 6  # frames
FORMATS = ("openpose", "coco list", "coco images", "csv")
FAULTS = ("field", "drop", "duplicate", "ragged", "cut", "bytes", "number")
FIELDS = st.sampled_from(
    [None, "", "x", " ", "nan", math.nan, math.inf, -math.inf, 1e300, -1e300, 1e30, -1e9, 10**400, 10**40, 5000, -1, 0, True, False,
     [], [1], [[1, 2], [3]], {}, {"a": 1}, "1,2", '"', "1e400", "7;8", "\u0663", "\ud800", 0.5, 1e-320]
)  # fmt: skip


def names_of(form: str) -> list[str]:
    """Return the joints of a format in their order."""
    return {"openpose": OPENPOSE[25], "csv": JOINTS}.get(form, COCO)


def values_of(form: str, frame: int) -> list[float]:
    """Return the keypoints of a frame: multiples of 1/4, which all notations keep, with confidence 0.5."""
    return [value for i in range(len(names_of(form))) for value in (100.25 + 10 * i + frame, 50.5 + 3 * i + frame, 0.5)]


def pose_of(form: str, frame: int) -> np.ndarray:
    """Return the pose (J, 3) of a frame."""
    return poses_from_points(np.array(values_of(form, frame), dtype=np.float32).reshape(-1, 3), names_of(form))


def break_list(values: list, fault: str, place: int, field) -> list:
    """Return the keypoints of a person, or the fields of a row, with a fault."""
    changed = [*values]
    if fault == "field":
        changed[place % len(values)] = field
    elif fault == "drop":
        del changed[place % len(values)]
    elif fault == "ragged":
        changed += [field] * (1 + place % 3)
    return changed


def openpose_files(fault: str, broken: int, place: int, field) -> dict[str, str]:
    """Return {name: content} of a folder in which the file of the frame `broken` has a fault."""
    files = {}
    for frame in range(COUNT):
        values = values_of("openpose", frame)
        content: dict = {"version": 1.3, "people": [{"person_id": [-1], "pose_keypoints_2d": values}]}
        if frame == broken:
            content["people"][0]["pose_keypoints_2d"] = break_list(values, fault, place, field)
            if fault == "field" and place % 5 == 0:
                content["people"][0]["pose_keypoints_2d"] = field
            elif fault == "field" and place % 5 == 1:
                content["people"] = field
            elif fault == "drop" and place % 2:
                del content["people"][0]["pose_keypoints_2d"]
        files[f"{frame:02d}_dance2_keypoints.json"] = json.dumps(content)
    if fault == "duplicate":
        files[f"{broken:03d}_dance2_keypoints.json"] = files[f"{broken:02d}_dance2_keypoints.json"]
    elif fault == "number":
        files[f"{place}_dance{place % 4}_keypoints.json"] = files.pop(f"{broken:02d}_dance2_keypoints.json")
    return files


def coco_file(form: str, fault: str, broken: int, place: int, field) -> str:
    """Return COCO's keypoints in which the annotation or the image of the frame `broken` has a fault."""
    rows, images = [], []
    for frame in range(COUNT):
        row = {"image_id": frame if form == "coco list" else 70 + frame, "keypoints": values_of(form, frame), "score": 0.9}
        image = {"id": 70 + frame, "file_name": f"take1/{frame:02d}_dance2.jpg"}
        if frame == broken:
            row["keypoints"] = break_list(row["keypoints"], fault, place, field)
            target = (row if form == "coco list" or place % 2 else image) if fault in ("field", "drop", "number") else None
            if target is not None and (fault == "number" or place % 3 == 0):
                key = "image_id" if target is row else ("id", "file_name")[place % 4 // 2]
                target[key] = field
                if fault == "drop":
                    del target[key]
        rows.append(row)
        images.append(image)
    if fault == "duplicate" and form == "coco images":
        images.append({"id": 99, "file_name": f"take2/{broken:02d}_dance2.png"})
    elif fault == "duplicate":
        rows.append({**rows[broken], "image_id": f"take{broken}.jpg"})
    return json.dumps({"images": images, "annotations": rows} if form == "coco images" else rows)


def csv_file(fault: str, broken: int, place: int, field) -> str:
    """Return a csv in which the row of the frame `broken` has a fault."""
    lines = [csv_header()]
    for frame in range(COUNT):
        row = [frame, *values_of("csv", frame)]
        if frame == broken:
            row = break_list(row, fault, place, field)
            if fault == "number":
                row[0] = field
        lines.append(row)
    if fault == "duplicate":
        lines.append(lines[1 + broken])
    return "".join(",".join("" if field is None else str(field) for field in line) + "\n" for line in lines)


@pytest.mark.parametrize("form", FORMATS)
def test_keypoints_with_one_fault(fresh, form, capsys):
    top = fresh()

    @cases(150)
    @given(st.sampled_from(FAULTS), st.integers(0, COUNT - 1), st.integers(0, 200), FIELDS, st.data())
    def check(fault, broken, place, field, data):
        if form == "openpose":
            path = top / "folder"
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
            files = openpose_files(fault, broken, place, field)
            target = next(name for name in sorted(files)[broken : broken + 1])
        else:
            path = top / ("k.csv" if form == "csv" else "k.json")
            target = path.name
            files = {
                target: csv_file(fault, broken, place, field) if form == "csv" else coco_file(form, fault, broken, place, field)
            }
        contents = {name: text.encode(errors="surrogatepass") for name, text in files.items()}
        if fault == "cut":
            contents[target] = contents[target][: data.draw(st.integers(0, len(contents[target]) - 1))]
        elif fault == "bytes":
            contents[target] = damaged(contents[target], data.draw)
        for name, content in contents.items():
            ((path / name) if form == "openpose" else path).write_bytes(content)
        found = outcome(lambda: read_keypoints(path))
        notices = capsys.readouterr().err.splitlines()
        if isinstance(found, UserError):
            assert str(found).startswith(str(path)) and len(str(found).splitlines()) == 1 and not notices
            return
        assert fault != "duplicate"
        assert all(np.isfinite(people).all() and np.abs(people).max(initial=0) <= 1e5 for people in found.values())
        assert len(notices) <= 2 and all(notice.startswith(str(path)) for notice in notices)
        if fault != "bytes":  # changed digits may be valid
            check_others(form, found, broken, cut=fault == "cut" and form != "openpose", notices=notices)

    check()


def check_others(form: str, found: dict[int, np.ndarray], broken: int, *, cut: bool, notices: list[str]) -> None:
    """Assert that all frames but the broken one have their keypoints. A table that was cut may lack rows at its end."""
    expected = {frame: pose_of(form, frame) for frame in range(COUNT)}
    others = set(range(max(found) if cut else COUNT)) - ({broken} if not cut else set())
    for frame in others:
        people = found[frame]
        if len(people) == 2 and form.startswith("coco"):  # the broken image_id was that of another image
            people = people[[np.array_equal(person, expected[frame]) for person in people]]
        assert np.array_equal(people, expected[frame][None]), frame
    if cut and not np.array_equal(found[max(found)], expected[max(found)][None]):
        assert len(found) == 1 or any("fewer digits" in notice for notice in notices)
