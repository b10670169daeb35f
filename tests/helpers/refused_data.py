"""Faulty data, in groups, for the table of messages; see refusal_table.py."""

from tests.helpers.refusal_table import Case
from tests.helpers.refused_datasets import DANCE, ROBOT, WHERE
from tests.helpers.refused_films import ANIMATIONS, FILMS
from tests.helpers.refused_images import CACHE, IMAGES
from tests.helpers.refused_keypoints import COCO, CSV, FORMATS, OPENPOSE
from tests.helpers.refused_preparation import POSE_IMAGES, PREPARATION, TRANSFER, WEIGHTS
from tests.helpers.refused_truth import TRUTH

GROUPS: dict[str, list[Case]] = {
    "Where the data set is": WHERE,
    "The dance's data set": DANCE,
    "The robot's data set": ROBOT,
    "Images": IMAGES,
    "Ground truth (gt.csv)": TRUTH,
    "Frame cache": CACHE,
    "Films": FILMS,
    "Animated images": ANIMATIONS,
    "Keypoints in any format": FORMATS,
    "Keypoints in a csv file": CSV,
    "Keypoints of OpenPose": OPENPOSE,
    "Keypoints of COCO": COCO,
    "Pose images": POSE_IMAGES,
    "prepare_video.py": PREPARATION,
    "The detector's weights": WEIGHTS,
    "Poses and first frames for Tester.py": TRANSFER,
}
