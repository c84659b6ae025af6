"""The index: one row a frame of a DICOM or NIfTI file, with what selecting, ordering and grouping need and nothing else.

It holds names, dates and descriptions, so it is kept in memory or in the private part of a run folder, never beside the scores.
"""

from typing import Any

import pyarrow as pa

INDEX = pa.schema(
    [
        pa.field("file_id", pa.int64(), nullable=False),  # place of the file in the listing
        pa.field("uri", pa.string(), nullable=False),  # of the file
        pa.field("kind", pa.string(), nullable=False),  # dicom, nifti, dicomdir; picture, other: neither; unread
        pa.field("frame", pa.int32(), nullable=False),  # from 0
        pa.field("frames", pa.int32(), nullable=False),  # of the file
        pa.field("problem", pa.string()),  # why the file can give no picture, in words without values
        # Whose it is
        pa.field("patient_id", pa.string()),
        pa.field("issuer", pa.string()),
        pa.field("birth_date", pa.string()),
        pa.field("sex", pa.string()),
        pa.field("study_date", pa.string()),
        pa.field("study_uid", pa.string()),
        pa.field("series_uid", pa.string()),
        pa.field("sop_uid", pa.string()),
        # What it is
        pa.field("sop_class", pa.string()),
        pa.field("modality", pa.string()),
        pa.field("image_type", pa.string()),  # values joined by a backslash, upper case; those of the frame added
        pa.field("text", pa.string()),  # descriptions and names, lower case: evidence to exclude only
        pa.field("suffix", pa.string()),  # BIDS: T1w, bold, …
        pa.field("photometric", pa.string()),
        pa.field("manufacturer", pa.string()),
        pa.field("field_strength", pa.float32()),
        pa.field("body_part", pa.string()),
        pa.field("plane_type", pa.int32()),  # GE's own
        pa.field("burned_in", pa.string()),
        pa.field("transfer_syntax", pa.string()),
        pa.field("lossy", pa.bool_()),
        # How it was made
        pa.field("scanning_sequence", pa.string()),
        pa.field("acquisition", pa.string()),  # 2d, 3d
        pa.field("te_ms", pa.float32()),
        pa.field("tr_ms", pa.float32()),
        pa.field("ti_ms", pa.float32()),
        pa.field("b_value", pa.float32()),
        pa.field("component", pa.string()),  # MAGNITUDE, PHASE, …
        pa.field("angio", pa.bool_()),
        pa.field("contrast_agent", pa.bool_()),
        pa.field("temporal_position", pa.int32()),
        pa.field("temporal_positions", pa.int32()),
        pa.field("echo", pa.int32()),
        pa.field("time", pa.string()),
        pa.field("instance_number", pa.int32()),
        # Where it lies
        pa.field("rows", pa.int32()),
        pa.field("columns", pa.int32()),
        pa.field("row_spacing", pa.float32()),
        pa.field("column_spacing", pa.float32()),
        pa.field("thickness", pa.float32()),
        pa.field("spacing_between", pa.float32()),
        pa.field("position", pa.list_(pa.float64(), 3)),  # mm, LPS
        pa.field("orientation", pa.list_(pa.float64(), 6)),  # directions of the columns and of the rows, LPS
        pa.field("volumes", pa.int32()),  # NIfTI: of the file
        pa.field("problem_status", pa.string()),
        pa.field("label_like", pa.bool_()),  # NIfTI: few whole values, an intent or a type that is no picture
        pa.field("empty", pa.bool_()),  # NIfTI: the slice shows nothing
    ]
)
"""Lengths are mm, times ms; what a file does not say is null."""


def index_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows as `header` makes them → a table of INDEX; what a row does not name is null."""
    return pa.Table.from_pylist(rows, schema=INDEX)


_REPEATED = frozenset(
    {
        "patient_id", "issuer", "birth_date", "sex", "study_date", "study_uid", "series_uid", "sop_class", "modality", "image_type",
        "text", "suffix", "photometric", "manufacturer", "body_part", "burned_in", "transfer_syntax", "scanning_sequence", "acquisition",
        "component",
    }
)  # fmt: skip
"""Columns whose texts are the same in all rows of a series."""


def compact(table: pa.Table) -> pa.Table:
    """A table of INDEX with each repeated text once, as a dictionary: 20 texts of a row are 20 numbers."""
    columns = [table[name].dictionary_encode() if name in _REPEATED else table[name] for name in table.column_names]
    return pa.table(columns, names=table.column_names)


def joined(tables: list[pa.Table]) -> pa.Table:
    """`compact` tables (at least one) as one of one piece, column by column; each is let go of by then: `tables` have none afterwards."""
    columns, names = [], tables[0].column_names
    for name in names:
        chunks = [chunk for table in tables for chunk in table[name].chunks]
        tables[:] = [table.drop_columns([name]) for table in tables]
        columns.append(pa.chunked_array(chunks, None if chunks else INDEX.field(name).type).unify_dictionaries().combine_chunks())
        del chunks
    return pa.table(columns, names=names)
