"""What is said of the series of an archive, by a run, a dry run and the page: what is scored, what is not and why, from its counts."""

from collections.abc import Mapping
from typing import Any


def told(studies: Mapping[str, Any]) -> list[str]:
    """Sentences about `studies`, as `Studies.counts` and run.json have it; none where there are no series."""
    if not studies or not studies["series"]:  # files were looked into, and none was of a series
        return []
    chosen, fallback = studies["series_selected"], studies.get("series_by_fallback", 0)
    others = studies["series"] - chosen
    found = [f"{_count(studies['series'], 'series')} of {_count(studies['exams'], 'studies', 'study')}: {chosen:,} selected"]
    found[0] += f" ({fallback:,} for want of a better one in their study)" if fallback else ""
    if others:
        reasons = "; ".join(f"{count:,} × {reason}" for reason, count in studies["unselected"].items())
        found[0] += f", {others:,} not: {reasons}"
    found[0] += "."
    if without := studies["exams_without_series"]:
        found.append(f"{without:,} of {_count(studies['exams'], 'studies', 'study')} {_have(without)} no scored series.")
    if nameless := studies.get("files_without_series"):
        found.append(
            f"Warning: {_count(nameless, 'files', 'file')} {_have(nameless)} no SeriesInstanceUID; each is a series of its own, named by "
            "its path."
        )
    if empty := studies.get("empty_slices"):
        found.append(
            f"{_count(empty, 'slices', 'slice')} of NIfTI volumes {_show(empty)} nothing but air and {_have(empty)} no row."
        )
    if repeated := studies.get("duplicates"):
        found.append(f"{_count(repeated, 'slices', 'slice')} {_have(repeated)} been met before; each instance counts once.")
    if conflicts := studies.get("same_uid_other_pixels"):
        found.append(
            f"Warning: {_count(conflicts, 'slices', 'slice')} {_have(conflicts)} the SOPInstanceUID of another and other pixels; "
            "both are scored."
        )
    return found


def _count(number: int, several: str, one: str | None = None) -> str:
    return f"{number:,} {one if number == 1 and one else several}"


def _have(number: int) -> str:
    return "has" if number == 1 else "have"


def _show(number: int) -> str:
    return "shows" if number == 1 else "show"
