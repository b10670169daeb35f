"""The models, by the name that a checkpoint stores: torch only, without files, flags or printing."""

from modules.base import SequenceLoss, VideoModel
from modules.pose_cvae import PoseCVAE
from modules.svg import SVG

MODEL_CLASSES: dict[str, type[VideoModel]] = {"pose_cvae": PoseCVAE, "svg": SVG}


def build_model(config: dict) -> VideoModel:
    """Return a new model for `config`, {"family": name, **sizes} in plain values, as a checkpoint stores it.

    Raises ValueError for an unknown name or size, TypeError for sizes that the class does not take.
    """
    sizes = dict(config)
    name = sizes.pop("family", None)
    if name not in MODEL_CLASSES:
        raise ValueError(f"model family: expected one of {', '.join(MODEL_CLASSES)}, got {name!r}")
    return MODEL_CLASSES[name](**sizes)


__all__ = ["MODEL_CLASSES", "SequenceLoss", "VideoModel", "build_model"]
