"""What is known of one series, from its rows of the index: the ground on which it is selected, ordered and described."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from btc_ray.studies.order import Arrangement, arrange
from btc_ray.studies.weighting import weighting_of


@dataclass(frozen=True, kw_only=True)
class SeriesFacts:
    """One series. Texts are evidence only and go into no shared table; lengths are mm, times ms.

    Attributes:
        image_types: every value of ImageType in the series, upper case.
        text: descriptions and names, lower case.
        slices: positions (or, without geometry, frames); `orientations`, `times`, `volumes`: how many of each there are.
        arrangement: order and stacks of its frames, in the order of the rows it was made from.
    """

    dicom: bool
    sop_class: str | None
    modality: str | None
    image_types: frozenset[str]
    text: str
    suffix: str | None
    photometric: str | None
    manufacturer: str | None
    field_strength: float | None
    body_part: str | None
    plane_type: int | None
    burned_in: str
    transfer_syntax: str | None
    scanning_sequence: str | None
    acquisition: str | None
    te_ms: float | None
    tr_ms: float | None
    ti_ms: float | None
    b_value: float | None
    component: str | None
    angio: bool
    contrast_agent: bool | None
    weighting: str | None
    rows: int | None
    columns: int | None
    row_spacing: float | None
    column_spacing: float | None
    slice_spacing: float | None
    thickness: float | None
    files: int
    frames: int
    slices: int
    orientations: int
    times: int
    volumes: int
    label_like: bool
    arrangement: Arrangement

    def has(self, *values: str) -> bool:
        """Whether ImageType holds one of `values`."""
        return not self.image_types.isdisjoint(values)

    def says(self, pattern: re.Pattern[str]) -> str | None:
        """ "text" where descriptions or names hold the pattern, else None."""
        return "text" if pattern.search(self.text.replace("_", " ")) or pattern.search(self.text) else None

    @property
    def derived(self) -> bool:
        """Whether the series says that it was computed from another; alone that is no reason against it."""
        return self.has("DERIVED")

    @property
    def plane(self) -> str | None:
        """Of most of its slices."""
        return _most(self.arrangement.plane)


def facts_of(frames: Sequence[dict[str, Any]]) -> SeriesFacts:
    """The facts of the series that `frames` (rows of the index, at least one) are all of."""
    good = [row for row in frames if row.get("problem") is None] or list(frames)
    arrangement = arrange(frames)

    def common(name: str) -> Any:
        return _most(row.get(name) for row in good)

    image_types = frozenset(value.strip() for row in good for value in (row.get("image_type") or "").split("\\") if value.strip())
    text = " | ".join(sorted({row["text"] for row in good if row.get("text")}))
    components = {row["component"] for row in good if row.get("component")}
    contrast = [row["contrast_agent"] for row in good if row.get("contrast_agent") is not None]
    agent = any(contrast) if contrast else (True if _CONTRAST.search(text.replace("_", " ")) else None)
    b_values = [row["b_value"] for row in good if row.get("b_value") is not None]
    facts = {name: common(name) for name in ("te_ms", "tr_ms", "ti_ms", "scanning_sequence", "suffix")}
    return SeriesFacts(
        **facts,
        dicom=frames[0]["kind"] != "nifti",
        sop_class=common("sop_class"),
        modality=common("modality"),
        image_types=image_types,
        text=text,
        photometric=common("photometric"),
        manufacturer=common("manufacturer"),
        field_strength=common("field_strength"),
        body_part=common("body_part"),
        plane_type=common("plane_type"),
        burned_in=_burned_in(good, image_types),
        transfer_syntax=common("transfer_syntax"),
        acquisition=common("acquisition"),
        b_value=max(b_values, default=None),
        component=next(iter(components - {"MAGNITUDE"}), next(iter(components), None)),
        angio=any(row.get("angio") for row in good),
        contrast_agent=agent,
        weighting=weighting_of(**facts, text=text),
        rows=common("rows"),
        columns=common("columns"),
        row_spacing=common("row_spacing"),
        column_spacing=common("column_spacing"),
        slice_spacing=arrangement.spacing_mm,
        thickness=common("thickness"),
        files=len({row["file_id"] for row in frames}),
        frames=len(frames),
        slices=arrangement.slices,
        orientations=arrangement.orientations,
        times=max(arrangement.times, 1),
        volumes=max((row.get("volumes") or 1) for row in good),
        label_like=any(row.get("label_like") for row in good),
        arrangement=arrangement,
    )


_CONTRAST = re.compile(r"(?<![a-z0-9])(gd|gad\w*|post|contrast|\+c|c\+|km|kontrast|ce|t1c\w*|t1gd|mr_gd)(?![a-z0-9])")


def _burned_in(frames: Sequence[dict[str, Any]], image_types: frozenset[str]) -> str:
    """yes, no, suspected or unsaid."""
    said = {row["burned_in"] for row in frames if row.get("burned_in")}
    if "yes" in said:
        return "yes"
    sop_classes = {row.get("sop_class") or "" for row in frames}
    screen = not image_types.isdisjoint(("SCREEN SAVE", "SCREENSAVE", "SCREEN CAPTURE"))
    if screen or any(one.startswith("1.2.840.10008.5.1.4.1.1.7") for one in sop_classes):
        return "suspected"
    return "no" if "no" in said else "unsaid"


def _most(values: Any) -> Any:
    counted = Counter(value for value in values if value is not None)
    return min(counted.items(), key=lambda item: (-item[1], str(item[0])))[0] if counted else None
