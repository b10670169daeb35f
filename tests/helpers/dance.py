"""Training clips of a dance, with defaults for tests."""

from pathlib import Path

from data.dance import DanceClips, DanceSplit

SIZE = {"height": 32, "width": 64}


def clips_of(split: DanceSplit, **flags) -> DanceClips:
    """Return clips of 5 frames without augmentation; `flags` override these defaults."""
    defaults = {"length": 5, "partial": 1.0, "seed": 1, "reference": "video", "flip": 0.0, "shift": 0, "margin": 0}
    return DanceClips(split=split, **defaults | flags)


def load_clips(root: Path, *, skip_bad: bool = False) -> DanceClips:
    """Return the training clips of the data set at `root`."""
    return clips_of(DanceSplit.load(root, "train", **SIZE, skip_bad=skip_bad))
