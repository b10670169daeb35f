"""Turns the BAIR robot-pushing tfrecords into folders of PNGs: python tools/convert_bair.py --src FOLDER --out bair_data

The data is BAIR robot pushing small (Ebert et al. 2017, arXiv 1710.05268), public as bair_robot_pushing_dataset_v0.tar, 30 GB;
unpacked, it is softmotion30_44k/{train,test}/traj_0_to_255.tfrecords and so on. Record k of such a file becomes
    OUT/{train,validate,test}/traj_0_to_255.tfrecords/k/{0..29}.png, actions.csv (30 x 4), endeffector_positions.csv (30 x 3)
which takes about 17 GB in 1.4 million files. A conversion that was stopped goes on when it is started again.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.openmp  # noqa: F401  (must precede torch)

# isort: split
import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import threading
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor, wait

import numpy as np
from PIL import Image
from tqdm import tqdm

from runtime.cli import COUNT, INDEX, Parser, location
from runtime.files import check_writable
from runtime.signals import Interrupt, Stopped, held_back
from tools.bair.tfrecords import FOOTER, HEADER, read_bytes, read_features, read_floats, read_length, read_payload
from utils import UserError, one_line_errors

SPLITS = ["train", "validate", "test"]
FILE_NAME = re.compile(r"traj_(\d+)_to_\d+\.tfrecords")


def decode(payload: memoryview, *, view: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The frames (T, S, S, 3) uint8 of a record, T as many as it has, and its tables (T, 4) and (T, 3) float32 by file name.

    Raises ValueError.
    """
    features = read_features(payload)
    image, action, position = f"image_{view}/encoded", "action", "endeffector_pos"
    numbered = [re.fullmatch(rf"(\d+)/({image}|{action}|{position})", name) for name in features]
    count = max([1 + int(found[1]) for found in numbered if found], default=1)

    def of_each_frame(name: str, read) -> list:
        try:
            return [read(features[f"{i}/{name}"]) for i in range(count)]
        except KeyError as missing:
            raise ValueError(f"no feature {missing}; expected one for each of its {count} frames") from None

    def table(name: str, columns: int) -> np.ndarray:
        rows = of_each_frame(name, read_floats)
        for i, row in enumerate(rows):
            if len(row) != columns:
                raise ValueError(f"feature {i}/{name} has {len(row)} floats, {columns} expected")
        return np.stack(rows)

    images = of_each_frame(image, read_bytes)
    side = max(1, math.isqrt(len(images[0]) // 3))
    for i, pixels in enumerate(images):
        if len(pixels) != 3 * side**2:
            expected = f"{3 * side**2} as in frame 0" if i else "3 times a square, for raw RGB,"
            raise ValueError(f"feature {i}/{image} has {len(pixels)} bytes, {expected} expected")
    frames = np.frombuffer(b"".join(images), np.uint8).reshape(count, side, side, 3)
    return frames, {"actions.csv": table(action, 4), "endeffector_positions.csv": table(position, 3)}


def write_sequence(place: Path, frames: np.ndarray, tables: dict[str, np.ndarray]) -> None:
    """Writes the folder beside its place and moves it there whole; leaves nothing behind on failure."""
    partial = place.with_name(f".{place.name}.part")
    try:
        partial.mkdir(parents=True)
        for i, frame in enumerate(frames):
            # Level 1 takes two thirds of the default's time; noisy camera pictures come out only 5 % larger.
            Image.fromarray(frame).save(partial / f"{i}.png", compress_level=1)
        for name, values in tables.items():
            np.savetxt(partial / name, values, delimiter=",")
        partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def start_worker(stop_event) -> None:
    """What each worker does first; the event asks it to stop after the sequence at hand."""
    global stop
    stop = stop_event
    parent = multiprocessing.parent_process()
    if parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the workers as well; the parent sees to it
        # Without this, the workers of a parent that was killed would work on, against those of the next start.
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def convert_file(source: Path, folder: Path, view: str) -> tuple[int, int]:
    """Writes the sequences of one file that are not in the folder yet: how many there are, and how many were new."""
    for leftover in folder.glob(".*.part"):
        shutil.rmtree(leftover)
    size = source.stat().st_size
    if not size:
        raise UserError(f"{source}: is empty; expected TFRecords")
    k = new = offset = 0
    with open(source, "rb") as file:
        while offset < size and not stop.is_set():
            done = (folder / str(k)).is_dir()
            try:
                length = read_length(file, offset=offset, size=size)
                sequence = None if done else decode(read_payload(file, length), view=view)
            except ValueError as error:
                raise UserError(f"{source}: record {k} at byte {offset}: {error}") from None
            if sequence:
                write_sequence(folder / str(k), *sequence)
            k, new, offset = k + 1, new + (not done), offset + HEADER + length + FOOTER
    return k, new


def convert_all(files: dict[Path, Path], *, view: str, workers: int) -> Counter:
    """Converts {folder: its tfrecords file}, side by side; counts the sequences per split and, as "new", those written now.

    Raises UserError.
    """
    spawn = multiprocessing.get_context("spawn")
    event = spawn.Event()
    setup = {"initializer": start_worker, "initargs": (event,)}
    workers = min(workers, len(files), 61)  # Windows cannot wait for more processes than that
    # A single one stays in this process: each new process takes two seconds to start.
    pool = ThreadPoolExecutor(1, **setup) if workers == 1 else ProcessPoolExecutor(workers, spawn, **setup)
    counts, pending = Counter(), {}
    with Interrupt() as interrupt, tqdm(total=len(files), desc="converting", unit="file", disable=None) as bar:
        try:
            # Processes start here: one could die of Ctrl-C before start_worker.
            with held_back([signal.SIGINT]):
                pending = {pool.submit(convert_file, file, folder, view): folder.parent.name for folder, file in files.items()}
            while pending and not interrupt.received:
                for future in wait(pending, timeout=0.2, return_when=FIRST_COMPLETED).done:
                    total, new = future.result()
                    counts.update({pending.pop(future): total, "new": new})
                    bar.update()
        except BrokenExecutor:
            raise UserError(f"--workers {workers}: one was killed, perhaps for want of memory; start again with fewer") from None
        finally:
            event.set()
            pool.shutdown(cancel_futures=True)
    if pending:
        raise Stopped("stopped; the same command goes on from here", interrupt.received)
    return counts


def plan(src: Path, out: Path, *, validate: int) -> dict[Path, Path]:
    """{folder to fill: tfrecords file}; the last `validate` train files, by number, are for validation. Raises UserError."""
    root = src / "softmotion30_44k" if (src / "softmotion30_44k").is_dir() else src
    files = {}
    for split in ("train", "test"):
        found = [path for path in (root / split).glob("*") if FILE_NAME.fullmatch(path.name)]
        if not found:
            raise UserError(f"--src {src}: no traj_*_to_*.tfrecords in {root / split}; expected the unpacked softmotion30_44k")
        files[split] = sorted(found, key=lambda path: int(FILE_NAME.fullmatch(path.name)[1]))
    kept = len(files["train"]) - validate
    if kept < 1:
        raise UserError(f"--validate {validate}: {len(files['train'])} train files found; expected fewer for validation")
    files["train"], files["validate"] = files["train"][:kept], files["train"][kept:]
    return {out / split / path.name: path for split in SPLITS for path in files[split]}


def claim(out: Path, files: dict[Path, Path], *, view: str) -> None:
    """Notes in `out` what goes into it, so that a second start mixes no views and trains on nothing it validates on.

    Raises UserError if the splits there were begun otherwise.
    """
    note = out / "conversion.json"
    validation = [folder.name for folder in files if folder.parent.name == "validate"]
    now = json.dumps({"view": view, "validate from": validation[0] if validation else None})
    if any((out / split).exists() for split in SPLITS):
        before = note.read_text() if note.exists() else "no conversion.json"
        if before != now:
            raise UserError(f"--out {out}: holds train, validate or test with {before}; expected {now}, or another folder")
    note.write_text(now)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Turn the BAIR robot-pushing tfrecords into folders of PNGs with actions and positions.")
    parser.add_argument("--src", type=location, required=True, metavar="FOLDER", help="softmotion30_44k, or the folder above it")
    parser.add_argument("--out", type=location, required=True, metavar="FOLDER", help="where train, validate and test go")
    parser.add_argument("--validate", type=INDEX, default=1, help="so many train files, the last ones, become validate")
    parser.add_argument("--view", default="aux1", choices=["aux1", "main"], help="camera; the SVG paper and the course use aux1")
    parser.add_argument("--workers", type=COUNT, default=os.cpu_count() or 1, help="processes, each with a file at a time")
    args = parser.parse_args(argv)
    files = plan(args.src, args.out, validate=args.validate)
    check_writable(args.out, flag="--out")
    claim(args.out, files, view=args.view)
    counts = convert_all(files, view=args.view, workers=args.workers)
    sequences = f"{counts['train']} training, {counts['validate']} validation and {counts['test']} test sequences"
    print(f"{args.out} holds {sequences}, {counts['new']} of them written now")


if __name__ == "__main__":
    main()
