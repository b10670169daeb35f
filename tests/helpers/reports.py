"""Reports of small runs, and their content."""

import json
import re
import shutil
from pathlib import Path

from tools import report


def copy_run(source: Path, folder: Path, *, better: float = 0.0, **flags) -> Path:
    """Copy a run to another folder, with other flags and with test scores that are `better` dB higher."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.ckpt", ".lock"))
    edit(folder / "config.json", lambda config: config["flags"].update(flags))

    def lift(scores: dict) -> None:
        for row in scores["sequences"]:
            row["psnr"] += better
        for frames in scores["per_frame"].values():
            frames["psnr"] = [value + better for value in frames["psnr"]]

    if better:
        edit(folder / "test" / "scores.json", lift)
    return folder


def edit(path: Path, change) -> None:
    """Change the content of a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def write(*runs: Path, out: Path, more: tuple = ()) -> tuple[str, str]:
    """Write a report; return the text of report.html, without images, and of report.md."""
    report.main([*map(str, runs), "--out", str(out), *more])
    page = (out / "report.html").read_text(encoding="utf-8")
    return re.sub(r"data:[^\"]*", "data:", page), (out / "report.md").read_text(encoding="utf-8")


def read_table(markdown: str, beginning: str) -> dict[str, list[str]]:
    """Return the cells of the first table whose header begins like this, by the first cell of each row."""
    lines = markdown[markdown.index(f"| {beginning} |") :].split("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0]: row[1:] for row in rows}
