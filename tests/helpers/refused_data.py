"""Faulty data, in groups, for the table of messages; see refusal_table.py."""

from tests.helpers.refusal_table import Case
from tests.helpers.refused_datasets import DANCE, ROBOT, WHERE
from tests.helpers.refused_images import CACHE, IMAGES
from tests.helpers.refused_truth import TRUTH

GROUPS: dict[str, list[Case]] = {
    "Where the data set is": WHERE,
    "The dance's data set": DANCE,
    "The robot's data set": ROBOT,
    "Images": IMAGES,
    "Ground truth (gt.csv)": TRUTH,
    "Frame cache": CACHE,
}
