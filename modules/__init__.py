"""Model families by name."""

from modules.base import SequenceLoss, VideoModel
from modules.pose_cvae import PoseCVAE
from modules.svg import SVG

FAMILIES: dict[str, type[VideoModel]] = {"pose_cvae": PoseCVAE, "svg": SVG}


def build_model(config: dict) -> VideoModel:
    """The model that `config` describes: {"family": name, **sizes}, plain values as a checkpoint stores them.

    Raises ValueError for an unknown family and TypeError for sizes that the family does not take.
    """
    sizes = dict(config)
    family = sizes.pop("family", None)
    if family not in FAMILIES:
        raise ValueError(f"model family {family!r} is not known; expected one of {', '.join(FAMILIES)}")
    return FAMILIES[family](**sizes)


__all__ = ["FAMILIES", "SequenceLoss", "VideoModel", "build_model"]
