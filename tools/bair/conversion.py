"""Convert files of BAIR TFRecords in parallel. Each worker writes one sequence at a time; only complete sequences appear."""

import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image
from tqdm import tqdm

from runtime.signals import Interrupt, Stopped, held_back
from tools.bair.tfrecords import FOOTER, HEADER, read_bytes, read_features, read_floats, read_length, read_payload
from utils import UserError

SPLITS = ["train", "validate", "test"]
FILE_NAME = re.compile(r"traj_(\d+)_to_\d+\.tfrecords")
MAX_WORKERS = 61  # Windows cannot wait for more processes
Value = TypeVar("Value")
stop_event: Event | None = None  # of this worker; set by start_worker()


class DecodedSequence(NamedTuple):
    """One record: T frames of S x S pixels and their tables."""

    frames: np.ndarray  # (T, S, S, 3) uint8
    tables: dict[str, np.ndarray]  # by file name: actions (T, 4) and positions (T, 3), float32


def decode(payload: memoryview, *, view: str) -> DecodedSequence:
    """Return the sequence in a record. Raises ValueError for a record without one."""
    features = read_features(payload)
    image, action, position = f"image_{view}/encoded", "action", "endeffector_pos"
    numbered = [re.fullmatch(rf"(\d+)/({image}|{action}|{position})", name) for name in features]
    count = max([1 + int(match[1]) for match in numbered if match], default=1)

    def read_all(name: str, read: Callable[[memoryview], Value]) -> list[Value]:
        """Return the feature of every frame."""
        try:
            return [read(features[f"{i}/{name}"]) for i in range(count)]
        except KeyError as missing:
            raise ValueError(f"expected {count} frames with all features, got no feature {missing}") from None

    def read_table(name: str, columns: int) -> np.ndarray:
        """Return the floats of every frame, (T, columns)."""
        rows = read_all(name, read_floats)
        for i, row in enumerate(rows):
            if len(row) != columns:
                raise ValueError(f"feature {i}/{name}: expected {columns} floats, got {len(row)}")
        return np.stack(rows)

    images = read_all(image, read_bytes)
    side = max(1, math.isqrt(len(images[0]) // 3))
    for i, pixels in enumerate(images):
        if len(pixels) != 3 * side**2:
            expected = f"{3 * side**2} bytes as in frame 0" if i else "3 times a square number of bytes, as raw RGB has"
            raise ValueError(f"feature {i}/{image}: expected {expected}, got {len(pixels)}")
    frames = np.frombuffer(b"".join(images), np.uint8).reshape(count, side, side, 3)
    tables = {"actions.csv": read_table(action, 4), "endeffector_positions.csv": read_table(position, 3)}
    return DecodedSequence(frames, tables)


def write_sequence(folder: Path, sequence: DecodedSequence) -> None:
    """Write a sequence next to its folder and move it there as a whole; a failure leaves no files behind."""
    partial = folder.with_name(f".{folder.name}.part")
    try:
        partial.mkdir(parents=True)
        for i, frame in enumerate(sequence.frames):
            # Level 1 takes two thirds of the default's time. Noisy camera images become only 5 % larger.
            Image.fromarray(frame).save(partial / f"{i}.png", compress_level=1)
        for name, values in sequence.tables.items():
            np.savetxt(partial / name, values, delimiter=",")
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def start_worker(event: Event) -> None:
    """Prepare a worker; when the event is set, it stops after the current sequence."""
    global stop_event
    stop_event = event
    parent = multiprocessing.parent_process()
    if parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the workers too; the parent handles it
        # Without this, the workers of a killed parent would keep writing and interfere with those of the next conversion.
        threading.Thread(target=exit_after, args=(parent,), daemon=True).start()


def exit_after(parent: BaseProcess) -> None:
    """End this process as soon as its parent has ended."""
    parent.join()
    os._exit(1)


def convert_file(source: Path, folder: Path, view: str) -> tuple[int, int]:
    """Write the sequences of one file that the folder lacks. Return how many it then has, and how many of those are new."""
    for leftover in folder.glob(".*.part"):
        shutil.rmtree(leftover)
    size = source.stat().st_size
    if not size:
        raise UserError(f"{source}: expected TFRecords, got an empty file")
    k = new = offset = 0
    with open(source, "rb") as file:
        while offset < size and not (stop_event and stop_event.is_set()):
            done = (folder / str(k)).is_dir()
            try:
                length = read_length(file, offset=offset, size=size)
                sequence = None if done else decode(read_payload(file, length), view=view)
            except ValueError as error:
                raise UserError(f"{source}: record {k} at byte {offset}: {error}") from None
            if sequence:
                write_sequence(folder / str(k), sequence)
            k, new, offset = k + 1, new + (not done), offset + HEADER + length + FOOTER
    return k, new


def start_pool(workers: int, event: Event) -> Executor:
    """Return a pool of worker processes; a single worker is a thread, because a new process takes two seconds to start."""
    if workers == 1:
        return ThreadPoolExecutor(1, initializer=start_worker, initargs=(event,))
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, spawn, initializer=start_worker, initargs=(event,))


def convert_files(files: dict[Path, Path], *, view: str, workers: int) -> Counter[str]:
    """Convert {folder: its TFRecords file} in parallel.

    Return the number of sequences by split and, as "new", the number of those written now. Raises UserError for a damaged file,
    and Stopped after a signal.
    """
    event = multiprocessing.get_context("spawn").Event()
    workers = min(workers, len(files), MAX_WORKERS)
    pool = start_pool(workers, event)
    counts: Counter[str] = Counter()
    pending: dict[Future, str] = {}  # the split of each file
    with Interrupt() as interrupt, tqdm(total=len(files), desc="converting", unit="file", disable=None) as bar:
        try:
            # Processes start here. Ctrl-C would kill one that has not yet reached start_worker().
            with held_back([signal.SIGINT]):
                for folder, file in files.items():
                    pending[pool.submit(convert_file, file, folder, view)] = folder.parent.name
            while pending and not interrupt.received:
                for future in wait(pending, timeout=0.2, return_when=FIRST_COMPLETED).done:
                    total, new = future.result()
                    counts.update({pending.pop(future): total, "new": new})
                    bar.update()
        except BrokenExecutor:
            raise UserError(f"--workers {workers}: a worker was killed, perhaps for lack of memory; retry with fewer") from None
        finally:
            event.set()
            pool.shutdown(cancel_futures=True)
    if pending:
        raise Stopped("stopped; the same command resumes here", interrupt.received)
    return counts


def first_number(path: Path) -> int:
    """Return the number of the first sequence in a file, -1 for other files."""
    match = FILE_NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def plan_conversion(src: Path, out: Path, *, validate: int) -> dict[Path, Path]:
    """Return {folder to fill: TFRecords file}; the last `validate` train files, by number, become the validation split.

    Raises UserError if there are too few files.
    """
    root = src / "softmotion30_44k" if (src / "softmotion30_44k").is_dir() else src
    files: dict[str, list[Path]] = {}
    for split in ("train", "test"):
        files[split] = sorted((path for path in (root / split).glob("*") if first_number(path) >= 0), key=first_number)
        if not files[split]:
            raise UserError(
                f"--src {src}: expected the unpacked softmotion30_44k, got no traj_*_to_*.tfrecords in {root / split}"
            )
    kept = len(files["train"]) - validate
    if kept < 1:
        raise UserError(f"--validate {validate}: expected fewer than the {len(files['train'])} train files")
    files["train"], files["validate"] = files["train"][:kept], files["train"][kept:]
    return {out / split / path.name: path for split in SPLITS for path in files[split]}


def record_conversion(out: Path, files: dict[Path, Path], *, view: str) -> None:
    """Write the settings of a conversion to its folder. Raises UserError if it contains splits made with other settings.

    Without this check, a second conversion could mix views, or put the same sequences into training and validation.
    """
    path = out / "conversion.json"
    validation = [folder.name for folder in files if folder.parent.name == "validate"]
    settings = json.dumps({"view": view, "validate from": validation[0] if validation else None})
    if any((out / split).exists() for split in SPLITS):
        found = path.read_text() if path.exists() else "no conversion.json"
        if found != settings:
            raise UserError(f"--out {out}: expected splits made with {settings}, got {found}; choose another folder")
    path.write_text(settings)
