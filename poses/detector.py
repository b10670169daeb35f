"""Keypoints of the people in a frame, found by torchvision's keypoint R-CNN (He et al. 2017, arXiv 1703.06870)."""
from pathlib import Path

import numpy as np
import torch

from poses.keypoints import COCO
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
        from torchvision.models.detection import KeypointRCNN_ResNet50_FPN_Weights, keypointrcnn_resnet50_fpn

        self.published, self.device, self.flag = KeypointRCNN_ResNet50_FPN_Weights.COCO_V1, device, flag
        # Joints are looked for in the likely boxes only, of which there would be a hundred otherwise.
        boxes = {"box_score_thresh": PERSON_SCORE, "box_detections_per_img": MOST_PEOPLE}
        sides = {"min_size": side, "max_size": 2 * side}
        self.model = keypointrcnn_resnet50_fpn(weights=None, weights_backbone=None, **sides, **boxes)
        self.model.load_state_dict(self.read(weights))
        self.model.to(device).eval()

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
        expected = f"expected the file that {self.published.url} gives"
        if not weights.is_file():
            raise UserError(f"{self.flag} {weights}: no such file; {expected}")
        try:
            state = torch.load(weights, map_location="cpu", weights_only=True)
            shapes = {name: tuple(value.shape) for name, value in state.items()}
        except Exception:  # torch raises errors of many kinds for a file that is none of its own
            raise UserError(f"{self.flag} {weights}: not a file of weights; {expected}") from None
        if shapes != {name: tuple(value.shape) for name, value in self.model.state_dict().items()}:
            raise UserError(f"{self.flag} {weights}: the weights of another network; {expected}")
        return state

    @torch.inference_mode()
    def people(self, frame: np.ndarray) -> np.ndarray:
        """The people (P, J, 3) in a frame (H, W, 3) uint8, joints in its pixels with a confidence in [0, 1]."""
        image = torch.tensor(frame).to(self.device).permute(2, 0, 1).float().div_(255)
        found = self.model([image])[0]
        sure = found["scores"] >= PERSON_SCORE
        points, scores = found["keypoints"][sure], found["keypoints_scores"][sure]  # (P, 17, 3), (P, 17)
        confidence = torch.sigmoid(scores) * (scores >= JOINT_SCORE)
        return whole_body(torch.cat([points[..., :2], confidence[..., None]], dim=2).cpu().numpy(), COCO)
