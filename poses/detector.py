"""Keypoints of the people in a frame, found by torchvision's keypoint R-CNN (He et al. 2017, arXiv 1703.06870)."""

from pathlib import Path

import numpy as np
import torch

from poses.keypoint_files import COCO
from poses.skeleton import whole_body
from utils import UserError

DETECTOR_SIDE = 480  # pixels of a frame's shorter side; the network was trained on 640 to 800, which takes twice as long
PERSON_SCORE = 0.7  # from which a box counts as a person, in [0, 1]
MOST_PEOPLE = 10  # in a frame
JOINT_SCORE = 2.0  # from which a joint counts as seen; the network's own scale, a logit


class Detector:
    """Finds people. `weights` is a file that torchvision's COCO_V1 weights were saved to, None downloads them once; frames are
    shrunk or enlarged to `side` pixels along their shorter side first. Raises UserError, which names the `flag` of the
    weights, if there are none."""

    def __init__(self, weights: Path | None, *, flag: str, device: torch.device, side: int):
        # Seconds of imports, which only those wait for who need a detector.
        from torchvision.models.detection import KeypointRCNN_ResNet50_FPN_Weights

        self.published, self.device, self.flag = KeypointRCNN_ResNet50_FPN_Weights.COCO_V1, device, flag
        state, self.model = self.read(weights), build(side)
        try:
            self.model.load_state_dict(state)  # which knows the names that the published file of 2019 has
        except RuntimeError:
            raise UserError(f"{flag} {weights}: the weights of another network; {self.expected()}") from None
        self.model.to(device).eval()

    def expected(self) -> str:
        """What --weights takes."""
        return f"expected the file that {self.published.url} gives"

    def read(self, weights: Path | None) -> dict:
        """The weights of the network. Raises UserError."""
        if weights is None:
            try:
                return self.published.get_state_dict(progress=True, check_hash=True)
            except (OSError, RuntimeError) as error:  # no network, or what came is not what was meant
                raise UserError(
                    f"the pose detector's weights cannot be downloaded ({' '.join(str(error).split())}); get "
                    f"{self.published.url} elsewhere and give the file with {self.flag}, or give keypoints or pose images instead"
                ) from None
        if not weights.is_file():
            raise UserError(f"{self.flag} {weights}: no such file; {self.expected()}")
        try:
            state = torch.load(weights, map_location="cpu", weights_only=True)
            return {str(name): value.float() for name, value in state.items()}
        except Exception:  # torch raises errors of many kinds for a file that is none of its own
            raise UserError(f"{self.flag} {weights}: not a file of weights; {self.expected()}") from None

    @torch.inference_mode()
    def people(self, frame: np.ndarray) -> np.ndarray:
        """The people (P, J, 3) in a frame (H, W, 3) uint8, joints in its pixels with a confidence in [0, 1]."""
        image = torch.tensor(frame).to(self.device).permute(2, 0, 1).float().div_(255)
        found = self.model([image])[0]
        sure = found["scores"] >= PERSON_SCORE
        points, scores = found["keypoints"][sure], found["keypoints_scores"][sure]  # (P, 17, 3), (P, 17)
        confidence = torch.sigmoid(scores) * (scores >= JOINT_SCORE)
        return whole_body(torch.cat([points[..., :2], confidence[..., None]], dim=2).cpu().numpy(), COCO)


def build(side: int) -> torch.nn.Module:
    """The network without its weights, as torchvision builds it for the published ones."""
    from torchvision.models.detection import KeypointRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops import FrozenBatchNorm2d

    # Joints are looked for in the likely boxes only, of which there would be a hundred otherwise.
    boxes = {"box_score_thresh": PERSON_SCORE, "box_detections_per_img": MOST_PEOPLE}
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d)
    for layer in backbone.modules():
        if isinstance(layer, FrozenBatchNorm2d):
            layer.eps = 0.0  # they were trained before torchvision added 1e-5 to the variances
    return KeypointRCNN(backbone, num_classes=2, min_size=side, max_size=2 * side, **boxes)
