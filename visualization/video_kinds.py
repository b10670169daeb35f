"""The values of the flags for videos, without the packages that write videos."""

from utils import optional_package

VIDEOS = {"gif": ("gif",), "mp4": ("mp4",), "both": ("gif", "mp4")}  # suffixes of the files


def video_kinds(value: str, *, flag: str) -> tuple[str, ...]:
    """Return the suffixes of the files for a key of VIDEOS. Raises UserError if a package for them is missing."""
    if "mp4" in VIDEOS[value]:
        optional_package("av", flag=f"{flag} {value}")
    return VIDEOS[value]
