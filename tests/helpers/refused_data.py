"""Faulty data, in groups, for the table of messages; see refusal_table.py."""

from tests.helpers.refusal_table import Case
from tests.helpers.refused_datasets import DANCE, ROBOT

GROUPS: dict[str, list[Case]] = {"The dance's data set": DANCE, "The robot's data set": ROBOT}
