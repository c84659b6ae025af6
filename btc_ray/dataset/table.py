"""Labelled images as one table: `uri, label, split, group`, from the Kaggle layout, class folders, or a Parquet/CSV table."""

import hashlib
import os
from collections import Counter

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from btc_ray import storage
from btc_ray.archive.entries import Entry, NoImagesError
from btc_ray.archive.listing import list_inputs
from btc_ray.errors import UserError
from btc_ray.progress import say
from btc_ray.storage import Place

SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("size", pa.int64()),
        pa.field("modified", pa.int64()),  # nanoseconds since 1970 of local files: a changed file is noticed
        pa.field("container", pa.string()),
        pa.field("offset", pa.int64()),
        pa.field("packed_size", pa.int64()),
        pa.field("packing", pa.string()),
        pa.field("problem_status", pa.string()),
        pa.field("problem", pa.string()),
        pa.field("label", pa.string(), nullable=False),
        pa.field("split", pa.string()),  # train, test, or null: not said
        pa.field("group", pa.string()),  # images of one group stay on one side of a split; null: a group of its own
    ]
)

_SPLITS = {"training": "train", "train": "train", "testing": "test", "test": "test"}


class LabelledDataError(UserError):
    """A labelled data set that cannot be understood; the message says what was found and what is expected."""


def read_labelled(data: Place, *, least_classes: int = 2, follow_links: bool = False) -> pa.Table:
    """Every labelled image of `data` as a table of SCHEMA, in the order of the listing. Raises LabelledDataError, also where there
    are fewer than `least_classes` classes: one that is to be told apart from others needs two."""
    rows = _from_table(data) if data.uri.endswith((".parquet", ".csv")) else _from_folders(data, follow_links)
    table = pa.Table.from_pylist([{"row_id": number, **row} for number, row in enumerate(rows)], schema=SCHEMA)
    classes = class_names(table)
    if len(classes) < least_classes:
        raise LabelledDataError(f"{data} has images of one class only ({classes[0]}); telling apart needs two.")
    return table


def class_names(table: pa.Table) -> tuple[str, ...]:
    """The classes in their order, which is always the sorted names."""
    return tuple(sorted(set(table["label"].to_pylist())))


def fingerprint(table: pa.Table) -> str:
    """16 hex digits that change when an image, its bytes' size or date, its label, split or group changes."""
    digest = hashlib.sha256()
    for batch in table.drop_columns(["row_id"]).to_batches(max_chunksize=10_000):
        digest.update(repr(batch.to_pylist()).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _from_folders(data: Place, follow_links: bool) -> list[dict[str, object]]:
    try:
        return _in_class_folders(data, follow_links)
    except NoImagesError as error:
        raise LabelledDataError(
            f"no image was found in {data} (found: {error.found}). Expected {data}/Training/<class>/* and {data}/Testing/<class>/*, or "
            f"{data}/<class>/*, or a Parquet or CSV table with the columns uri,label[,split][,group]."
        ) from error


def _in_class_folders(data: Place, follow_links: bool) -> list[dict[str, object]]:
    root = storage.absolute(data.uri).rstrip("/")
    rows = []
    skipped: Counter[str] = Counter()
    for entry in list_inputs([data.uri], options=data.options, follow_links=follow_links):
        if not isinstance(entry, Entry):
            skipped[entry.reason] += 1
            continue
        if entry.container is not None or entry.uri.lower().endswith((".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz")):
            name = (entry.container or entry.uri).rpartition("/")[2]
            raise LabelledDataError(
                f"{data} holds the archive {name}. Labelled images are read from folders: unpack it, or move it away."
            )
        *folders, _name = entry.uri.removeprefix(root).lstrip("/").split("/")
        split = _SPLITS.get(folders[0].lower()) if folders else None
        folders = folders[1:] if split else folders
        if not folders:
            raise LabelledDataError(
                f"{entry.uri} stands in no class folder. Expected {data}/Training/<class>/* or {data}/<class>/*."
            )
        rows.append({**_located(entry), "label": folders[0], "split": split})
    for reason, count in skipped.most_common():
        say(f"left out: {count:,} × {reason}")
    return rows


def _from_table(data: Place) -> list[dict[str, object]]:
    try:
        content = pa.BufferReader(data.read())
    except FileNotFoundError as error:
        raise LabelledDataError(f"{data} does not exist.") from error
    try:
        table = pq.read_table(content) if data.uri.endswith(".parquet") else pacsv.read_csv(content)
    except pa.ArrowInvalid as error:
        raise LabelledDataError(f"{data} cannot be read as a table: {error}") from error
    if missing := {"uri", "label"} - set(table.column_names):
        raise LabelledDataError(
            f"{data} has no column {' and '.join(sorted(missing))}; a labelled table has uri,label[,split][,group]."
        )
    if not len(table):
        raise LabelledDataError(f"{data} has no rows; a labelled table has one for each image.")
    folder = data.uri.rpartition("/")[0] or "."
    rows: list[dict[str, object]] = []
    for number, row in enumerate(table.to_pylist(), start=1):
        row = {name: None if value == "" else value for name, value in row.items()}  # an empty cell of a CSV
        for name in ("uri", "label"):
            if row[name] is None:
                raise LabelledDataError(f"{data}: row {number} has no {name}.")
        split = row.get("split")
        if split is not None and str(split).lower() not in _SPLITS:
            raise LabelledDataError(f"{data}: row {number} has the split {split!r}; known are train and test.")
        image = row["uri"] if "://" in row["uri"] or row["uri"].startswith("/") else storage.join(folder, row["uri"])
        group = row.get("group")
        rows.append(
            {
                **_located(Entry(uri=storage.absolute(image))),
                "label": str(row["label"]),
                "split": None if split is None else _SPLITS[str(split).lower()],
                "group": None if group is None else str(group),
            }
        )
    return rows


def _located(entry: Entry) -> dict[str, object]:
    row: dict[str, object] = {name: getattr(entry, name) for name in Entry.__dataclass_fields__}
    if entry.container is None and storage.is_local(entry.uri):
        try:
            found = os.stat(entry.uri)  # noqa: PTH116 - one call for both, and names may hold anything
            row |= {"size": found.st_size, "modified": found.st_mtime_ns}
        except OSError:
            pass  # reading it gives the row its reason
    return row
