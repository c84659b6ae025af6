"""The tables of series and exams: what is shared of them. Keys, measures and words of closed lists; no text, date or UID of a header."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from btc_ray.studies.facts import SeriesFacts
from btc_ray.studies.grouping import Grouped
from btc_ray.studies.keys import Pseudonyms

# Names of the standard that everyone may see; other SOP classes are "other".
_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.4.1": "enhanced MR",
    "1.2.840.10008.5.1.4.1.1.4.4": "legacy converted enhanced MR",
    "1.2.840.10008.5.1.4.1.1.7": "secondary capture",
    "1.2.840.10008.5.1.4.1.1.2": "CT",
}
_SYNTAXES = {
    "1.2.840.10008.1.2": "implicit little endian", "1.2.840.10008.1.2.1": "explicit little endian",
    "1.2.840.10008.1.2.1.99": "deflated", "1.2.840.10008.1.2.2": "big endian", "1.2.840.10008.1.2.5": "RLE",
    "1.2.840.10008.1.2.4.50": "JPEG", "1.2.840.10008.1.2.4.51": "JPEG 12 bit", "1.2.840.10008.1.2.4.57": "JPEG lossless",
    "1.2.840.10008.1.2.4.70": "JPEG lossless", "1.2.840.10008.1.2.4.80": "JPEG-LS", "1.2.840.10008.1.2.4.81": "JPEG-LS near-lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 lossless", "1.2.840.10008.1.2.4.91": "JPEG 2000", "1.2.840.10008.1.2.4.201": "HTJ2K lossless",
    "1.2.840.10008.1.2.4.202": "HTJ2K lossless", "1.2.840.10008.1.2.4.203": "HTJ2K", "nifti": "NIfTI",
}  # fmt: skip
_MODALITIES = frozenset({"MR", "CT", "US", "CR", "DX", "MG", "PT", "NM", "XA", "RF", "OT", "SC", "SR", "PR", "KO", "SEG", "DOC"})

KEYS: list[Any] = [
    pa.field("series_key", pa.string(), nullable=False),
    pa.field("exam_key", pa.string(), nullable=False),
    pa.field("patient_key", pa.string(), nullable=False),
]
DESCRIPTION: list[Any] = [
    *KEYS,
    pa.field("exam_number", pa.int32()),  # among its patient's, by date
    pa.field("patient_conflict", pa.bool_()),
    pa.field("kind", pa.string()),
    pa.field("modality", pa.string()),
    pa.field("sop_class", pa.string()),
    pa.field("manufacturer", pa.string()),
    pa.field("field_strength", pa.float32()),
    pa.field("body_part", pa.string()),
    pa.field("weighting", pa.string()),
    pa.field("contrast_agent", pa.bool_()),
    pa.field("te_ms", pa.float32()),
    pa.field("tr_ms", pa.float32()),
    pa.field("ti_ms", pa.float32()),
    pa.field("acquisition", pa.string()),
    pa.field("plane", pa.string()),
    pa.field("rows", pa.int32()),
    pa.field("columns", pa.int32()),
    pa.field("row_spacing", pa.float32()),
    pa.field("column_spacing", pa.float32()),
    pa.field("slice_spacing", pa.float32()),
    pa.field("slices", pa.int32()),
    pa.field("files", pa.int32()),
    pa.field("stacks", pa.int32()),
    pa.field("transfer_syntax", pa.string()),
    pa.field("derived", pa.bool_()),
    pa.field("burned_in", pa.string()),
    pa.field("gap", pa.bool_()),
    pa.field("duplicates", pa.int32()),
    pa.field("selected", pa.bool_()),
    pa.field("reason", pa.string()),
    pa.field("selected_by", pa.string()),
]
"""What a series is, before any slice of it is scored. Lengths mm, times ms, field tesla."""


def described(grouped: Grouped, pseudonyms: Pseudonyms) -> pa.Table:
    """A row a series, with the columns of DESCRIPTION, in the order of the listing."""
    return pa.Table.from_pylist(
        [_series(name, facts, grouped, pseudonyms) for name, facts in grouped.facts.items()], schema=pa.schema(DESCRIPTION)
    )


def keys_of(series: str, grouped: Grouped, pseudonyms: Pseudonyms) -> dict[str, str]:
    """The keys of a series, of its exam and of its patient."""
    people = grouped.people
    return {
        "series_key": pseudonyms.key("series", series),
        "exam_key": pseudonyms.key("exam", people.exam[series]),
        "patient_key": pseudonyms.key("patient", people.patient[series]),
    }


def _series(name: str, facts: SeriesFacts, grouped: Grouped, pseudonyms: Pseudonyms) -> dict[str, Any]:
    people, chosen = grouped.people, grouped.selected[name]
    taken = ("manufacturer", "field_strength", "body_part", "weighting", "contrast_agent", "te_ms", "tr_ms", "ti_ms", "plane", "rows",
             "columns", "row_spacing", "column_spacing", "slice_spacing", "slices", "files", "derived", "burned_in")  # fmt: skip
    return {
        **keys_of(name, grouped, pseudonyms),
        **{column: getattr(facts, column) for column in taken},
        "exam_number": people.number[people.exam[name]],
        "patient_conflict": people.patient[name] in people.conflicts,
        "kind": "dicom" if facts.dicom else "nifti",
        "modality": facts.modality if facts.modality in _MODALITIES or facts.modality is None else "other",
        "sop_class": None if facts.sop_class is None else _CLASSES.get(facts.sop_class, "other"),
        "acquisition": facts.acquisition if facts.acquisition in ("2d", "3d") else None,
        "transfer_syntax": None if facts.transfer_syntax is None else _SYNTAXES.get(facts.transfer_syntax, "other"),
        "stacks": facts.arrangement.stacks,
        "gap": facts.arrangement.gap,
        "duplicates": sum(at is not None for at in facts.arrangement.duplicate_of),
        "selected": chosen.selected,
        "reason": chosen.reason,
        "selected_by": chosen.by if chosen.selected else None,
    }


def evidence_fields(classes: Sequence[str]) -> list[Any]:
    """What the scored slices of a series come to; means and shares are over the used ones."""
    return [
        pa.field("rows_ok", pa.int32()),
        pa.field("rows_not_ok", pa.int32()),
        pa.field("n_accept", pa.int32()),
        pa.field("n_review", pa.int32()),
        pa.field("n_reject", pa.int32()),
        pa.field("n_used", pa.int32()),  # ok, not rejected, no duplicate
        *(pa.field(f"mean_{name}", pa.float32()) for name in classes),
        *(pa.field(f"share_{name}", pa.float32()) for name in classes),
        pa.field("share_tumour", pa.float32()),
        pa.field("longest_run", pa.int32()),  # neighbouring slices of one tumour class
        pa.field("longest_run_mm", pa.float32()),
        pa.field("peak_row_id", pa.int64()),  # the used slice whose tumour is most probable
        pa.field("training_like", pa.float32()),  # mean distance of features from the training images: smaller is more alike
        pa.field("label", pa.string()),
        pa.field("confidence", pa.float32()),
        pa.field("decision", pa.string()),
        pa.field("rule", pa.string()),
    ]


def series_schema(classes: Sequence[str]) -> pa.Schema:
    """Columns of RUN/series. `label` is null where no rule was fitted on labelled patients."""
    return pa.schema([*DESCRIPTION, *evidence_fields(classes)])


def exams_schema(classes: Sequence[str]) -> pa.Schema:
    """Columns of RUN/exams: the evidence is that of the selected series which is most like the training images, `series_key`."""
    return pa.schema(
        [
            pa.field("exam_key", pa.string(), nullable=False),
            pa.field("patient_key", pa.string(), nullable=False),
            pa.field("exam_number", pa.int32()),
            pa.field("patient_conflict", pa.bool_()),
            pa.field("n_series", pa.int32()),
            pa.field("n_selected", pa.int32()),
            pa.field("series_key", pa.string()),
            pa.field("weighting", pa.string()),
            pa.field("plane", pa.string()),
            pa.field("slices", pa.int32()),
            *evidence_fields(classes),
        ]
    )
