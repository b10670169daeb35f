"""Detection of people and their keypoints by torchvision's keypoint R-CNN (He et al. 2017, arXiv 1703.06870).

P people, J joints, H x W frame size.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from poses.keypoint_files import COCO
from poses.skeleton import poses_from_points
from utils import UserError

DETECTOR_SIDE = 480  # pixels of a frame's shorter side; the network was trained on 640 to 800, which takes twice as long
PERSON_SCORE = 0.7  # lowest score of a box that counts as a person, in [0, 1]
MAX_PEOPLE = 10  # in a frame
JOINT_SCORE = 2.0  # lowest score of a joint that counts as found; the network's own scale, a logit


class Detector:
    """A detector of the people in a frame."""

    def __init__(self, *, model: torch.nn.Module, device: torch.device):
        self.model, self.device = model, device

    @classmethod
    def load(cls, weights: Path | None, *, flag: str, device: torch.device, side: int) -> Detector:
        """Return a detector that first resizes frames to `side` pixels along their shorter side.

        `weights` is a file with torchvision's COCO_V1 weights; None downloads it once. Raises UserError, which names the `flag`
        for this file, if the weights cannot be read.
        """
        # This import takes seconds, which only runs with a detector should spend.
        from torchvision.models.detection import KeypointRCNN_ResNet50_FPN_Weights

        published = KeypointRCNN_ResNet50_FPN_Weights.COCO_V1
        state = download_weights(published, flag) if weights is None else read_weights(weights, published.url, flag)
        model = build(side)
        fill(model, state, f"{flag} {weights}", published.url)
        return cls(model=model.to(device).eval(), device=device)

    @torch.inference_mode()
    def find_people(self, frame: np.ndarray) -> np.ndarray:
        """Return the people (P, J, 3) in a frame (H, W, 3) uint8: joints in its pixels with a confidence in [0, 1]."""
        image = torch.tensor(frame).to(self.device).permute(2, 0, 1).float().div_(255)
        found = self.model([image])[0]
        is_person = found["scores"] >= PERSON_SCORE
        points, scores = found["keypoints"][is_person], found["keypoints_scores"][is_person]  # (P, 17, 3), (P, 17)
        confidence = torch.sigmoid(scores) * (scores >= JOINT_SCORE)
        return poses_from_points(torch.cat([points[..., :2], confidence[..., None]], dim=2).cpu().numpy(), COCO)


def download_weights(published, flag: str) -> dict[str, torch.Tensor]:
    """Return the weights of `published`, a member of torchvision's enum of weights. Raises UserError if the download fails."""
    try:
        return published.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:  # no network, or a file with another content hash
        raise UserError(
            f"the pose detector's weights cannot be downloaded ({' '.join(str(error).split())}); get {published.url} elsewhere "
            f"and pass the file with {flag}, or pass keypoints or pose images instead"
        ) from None


def read_weights(path: Path, url: str, flag: str) -> dict[str, torch.Tensor]:
    """Return the weights in a file. Raises UserError, which names `url` as the source of the expected file."""
    if not path.is_file():
        raise UserError(f"{flag} {path}: no such file; expected the file at {url}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {str(name): value.float() for name, value in state.items()}
    except Exception:  # torch raises errors of many kinds for a file of another format
        raise UserError(f"{flag} {path}: not a file of weights; expected the file at {url}") from None


def fill(model: torch.nn.Module, state: dict[str, torch.Tensor], place: str, url: str) -> None:
    """Give the model its weights. Raises UserError, which names `place` and the `url` of the expected file, for others."""
    try:
        model.load_state_dict(state)  # renames the older names in the published file of 2019
    except RuntimeError:
        raise UserError(f"{place}: the weights of another network; expected the file at {url}") from None


def build(side: int) -> torch.nn.Module:
    """Return the network without weights, built like torchvision's network with the published weights."""
    from torchvision.models.detection import KeypointRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops import FrozenBatchNorm2d

    # Joints are searched only in boxes that are likely to contain a person. By default there would be up to a hundred boxes.
    boxes = {"box_score_thresh": PERSON_SCORE, "box_detections_per_img": MAX_PEOPLE}
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d)
    for layer in backbone.modules():
        if isinstance(layer, FrozenBatchNorm2d):
            layer.eps = 0.0  # the weights were trained before torchvision added 1e-5 to the variances
    return KeypointRCNN(backbone, num_classes=2, min_size=side, max_size=2 * side, **boxes)
