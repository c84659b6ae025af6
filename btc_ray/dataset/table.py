"""Labelled images as one table: `uri, label, split, group, source, examination`, from the Kaggle layout, class folders, or a table."""

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from btc_ray import storage
from btc_ray.archive import names
from btc_ray.archive.containers import open_members
from btc_ray.archive.entries import SIZE_LIMIT, Entry, NoImagesError, SliceOf
from btc_ray.archive.listing import list_inputs
from btc_ray.archive.manifest import SLICE
from btc_ray.archive.tables import MissingColumnsError, Part, TableError, folder_of, placed, table_parts, table_rows
from btc_ray.dataset.several import SEPARATOR, is_several, one_name
from btc_ray.errors import UserError
from btc_ray.progress import say
from btc_ray.storage import Place

_OF_ARCHIVES = (  # of DICOM and NIfTI; null for pictures
    pa.field("kind", pa.string()),
    pa.field("frame", pa.int32()),
    pa.field("read_from", pa.string()),  # the URI to read where `uri` is a pseudonym: it goes into no file that is shared
    pa.field("hidden", pa.bool_()),  # a name may be burned into its pixels: no page shows it
    *SLICE,
)
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
        pa.field("split", pa.string()),  # train, validation, test, or null: not said
        pa.field("group", pa.string()),  # images of one group stay on one side of a split; null: a group of its own
        pa.field("source", pa.string()),  # where it comes from: a hospital, a data set; null: not said
        *_OF_ARCHIVES,
        pa.field("examination", pa.string()),  # of the patient; null: not known
    ]
)

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""How folders and tables write the splits, in small letters."""

_WANTED = ("split", "group", "source")  # columns that a labelled table may have
_LAYOUT = "{0}/Training/<class>/* and {0}/Testing/<class>/* (also Validation), or {0}/<class>/*"


class LabelledDataError(UserError):
    """A labelled data set that cannot be understood; the message says what was found and what is expected."""


def read_labelled(data: Place, *, least_classes: int = 2, follow_links: bool = False) -> pa.Table:
    """Every labelled image of `data` as a table of SCHEMA, in the order of the listing. Raises LabelledDataError, also where there
    are fewer than `least_classes` classes: one that is to be told apart from others needs two."""
    parts = _parts(data)
    rows = _from_table(data, parts) if parts else _from_folders(data, follow_links)
    _clean_labels(rows)
    _name_several(rows)
    table = pa.Table.from_pylist([{"row_id": number, **row} for number, row in enumerate(rows)], schema=SCHEMA)
    classes = class_names(table)
    if len(classes) < least_classes:
        inner = folders_below(table, data).get(classes[0], ())
        hint = (
            f" {data}/{classes[0]} holds folders ({', '.join(sorted(inner)[:5])}): is it what --data should name?"
            if inner
            else ""
        )
        raise LabelledDataError(f"{data} has images of one class only ({classes[0]}); telling apart needs two.{hint}")
    return table


def _clean_labels(rows: list[dict[str, object]]) -> None:
    """Labels without spaces around them and in one of Unicode's ways to write an accent; what changed is said."""
    changed: Counter[tuple[str, str]] = Counter()
    for row in rows:
        written = str(row["label"])
        clean = unicodedata.normalize("NFC", written)
        row["label"] = clean.strip()
        if clean.strip() != clean:
            changed[written, clean.strip()] += 1
    for (written, label), count in sorted(changed.items()):
        say(f"taken as {label!r}: {count:,} labels written {written!r}")


def _name_several(rows: list[dict[str, object]]) -> None:
    """Labels that name several classes of the data, in one way to write them; what changed is said. Raises LabelledDataError for one
    that names a class and something that is none."""
    labels = {str(row["label"]) for row in rows}
    names = {label: one_name(label, labels) for label in labels}
    for label, name in sorted(names.items()):
        parts = {part.strip() for part in label.split(SEPARATOR)}
        if name == label and not is_several(label, labels) and 0 < len(parts & (labels - {label})) < len(parts):
            unknown = ", ".join(sorted(parts - labels))
            raise LabelledDataError(f"the label {label!r} names several classes, and of {unknown} there is no image.")
        if name != label:
            say(f"taken as {name!r}, one of these classes: labels written {label!r}")
    for row in rows:
        row["label"] = names[str(row["label"])]


def folders_below(table: pa.Table, data: Place) -> dict[str, set[str]]:
    """The names of the folders inside each class's folder; nothing where `data` is a table."""
    root = f"{storage.absolute(data.uri).rstrip('/')}/"
    found: dict[str, set[str]] = {}
    for uri, label in zip(table["uri"].to_pylist(), table["label"].to_pylist(), strict=True):
        folders = [name.strip() for name in uri.removeprefix(root).split("/")[:-1]] if uri.startswith(root) else []
        names = [unicodedata.normalize("NFC", name) for name in folders]
        if label in names[:2]:
            found.setdefault(label, set()).update(names[names.index(label) + 1 :])
    return found


def _parts(data: Place) -> Sequence[Part] | None:
    """The files of a table, or None for folders of images. Raises LabelledDataError for a file that is neither."""
    if parts := table_parts(data.uri, data.options):
        return parts
    if names.list_kind(names.last_name(data.uri)):
        filesystem, path = data.filesystem()
        on_web = storage.scheme(data.uri) in ("http", "https")  # where a folder is any page that holds links
        return None if not on_web and filesystem.isdir(path) else [(data.uri, {})]
    if data.is_local and data.path().is_file() and not names.archive_kind(data.name):
        raise LabelledDataError(
            f"{data} is a file whose name does not end as a table's: labelled images are a folder, or a table in .csv, .tsv, .txt or "
            ".parquet with the columns uri,label[,split][,group][,source]."
        )
    return None


def class_names(table: pa.Table) -> tuple[str, ...]:
    """The classes in their order, which is always the sorted names; labels that name several of them are none."""
    labels = set(table["label"].to_pylist())
    return tuple(sorted(label for label in labels if not is_several(label, labels)))


def several_names(table: pa.Table) -> tuple[str, ...]:
    """The labels that name several of the classes, sorted."""
    return tuple(sorted(set(table["label"].to_pylist()) - set(class_names(table))))


def fingerprint(table: pa.Table) -> str:
    """16 hex digits that change when an image, its bytes' size or date, its label, split, group or source changes."""
    digest = hashlib.sha256()
    later = ["source", *(column.name for column in _OF_ARCHIVES)]
    unsaid = [name for name in later if table[name].null_count == len(table)]  # what was cached before there were such is right
    for batch in table.drop_columns(["row_id", "examination", *unsaid]).to_batches(max_chunksize=10_000):
        digest.update(repr(batch.to_pylist()).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def is_private(table: pa.Table) -> bool:
    """Whether the table holds paths that nothing but private files may hold."""
    return table["read_from"].null_count < len(table)


def shown_source(table: pa.Table, uri: str) -> str:
    """Where labelled images are from, as records and pages say it: a hash where paths are private."""
    return f"sha256:{hashlib.sha256(uri.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}" if is_private(table) else uri


def to_read(table: pa.Table) -> pa.Table:
    """Rows of a labelled table as a manifest has them: the true URI in `uri`, and in `shown_uri` what stands for a private one."""
    shown = pc.if_else(table["read_from"].is_valid(), table["uri"], pa.scalar(None, pa.string()))
    uris = pc.coalesce(table["read_from"], table["uri"])
    at = table.schema.get_field_index("uri")
    return table.set_column(at, SCHEMA.field("uri"), uris).append_column("shown_uri", shown)


def entries_of(table: pa.Table) -> Iterator[Entry]:
    """The images of a labelled table as a listing has them."""
    named = [name for name in Entry.__dataclass_fields__ if name in SCHEMA.names]
    for row in to_read(table).to_pylist():
        about = SliceOf(shown_uri=row["shown_uri"], **{column.name: row[column.name] for column in SLICE})
        yield Entry(
            **{name: row[name] for name in named},
            series=row["series_key"],
            slice=None if about == SliceOf() else about,
        )


def hidden_series(table: pa.Table) -> frozenset[str]:
    """The keys of the series that no page shows."""
    return frozenset(table.filter(pc.fill_null(table["hidden"], False))["series_key"].to_pylist())


def _from_folders(data: Place, follow_links: bool) -> list[dict[str, object]]:
    try:
        return _in_class_folders(data, follow_links)
    except NoImagesError as error:
        raise LabelledDataError(
            f"no image was found in {data} (found: {error.found}). Expected {_LAYOUT.format(data)}, or a Parquet or CSV table with "
            "the columns uri,label[,split][,group][,source]."
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
        label, split = _label_and_split(folders)
        if label is None and entry.problem:  # a folder that cannot be listed, for one
            raise LabelledDataError(f"{entry.uri}: {entry.problem}. A class may be in it: mend that, or move it away.")
        if label is None:
            raise LabelledDataError(f"{entry.uri} stands in no class folder. Expected {_LAYOUT.format(data)}.")
        rows.append({**located(entry), "label": label, "split": split})
    for reason, count in skipped.most_common():
        say(f"left out: {count:,} × {reason}")
    return rows


def _label_and_split(folders: Sequence[str]) -> tuple[str | None, str | None]:
    """The class of an image in these folders, and its split: `<split>/<class>/…`, or `<class>/<split>/…`, or not said."""
    first, second = (*folders, None, None)[:2]
    if first is not None and (split := _split_of(first)):
        return second, split
    return first, None if second is None else _split_of(second)


def _split_of(folder: str) -> str | None:
    return SPLIT_WORDS.get(folder.strip().casefold())


def _from_table(data: Place, parts: Sequence[Part]) -> list[dict[str, object]]:
    folder = folder_of(data.uri.rstrip("/")) if "/" in data.uri.rstrip("/") else "."
    rows: list[dict[str, object]] = []
    for uri, given in parts:
        for row in _labelled_cells(data, uri, given):
            number = len(rows) + 1
            for name in ("uri", "label"):
                if not row[name]:
                    raise LabelledDataError(f"{data}: row {number} has no {name}.")
            split = row.get("split")
            if split is not None and split.strip().casefold() not in SPLIT_WORDS:
                raise LabelledDataError(
                    f"{data}: row {number} has the split {split[:30]!r}; known are train, validation and test."
                )
            rows.append(
                {
                    "uri": placed(folder, str(row["uri"]).strip()),
                    "label": row["label"],
                    "split": None if split is None else SPLIT_WORDS[split.strip().casefold()],
                    "group": row.get("group"),
                    "source": row.get("source"),
                }
            )
    if not rows:
        raise LabelledDataError(f"{data} has no rows; a labelled table has one for each image.")
    places = located_uris([str(row["uri"]) for row in rows], data)
    return [{**place, **row} for place, row in zip(places, rows, strict=True)]


def located_uris(uris: Sequence[str], data: Place) -> list[dict[str, object]]:
    """Where the images of absolute `uris` stand, files and members of archives, as the columns of a manifest; opened as `data` is."""
    members = _members(uris, data)
    return [located(members.get(uri, Entry(uri=uri))) for uri in uris]


def _labelled_cells(data: Place, uri: str, given: Mapping[str, str | None]) -> Iterator[dict[str, str | None]]:
    """The cells of one file of a labelled table. Raises LabelledDataError."""
    shown = data if uri == data.uri else data.at(uri)
    try:
        found = table_rows(uri, data.options, needed=("uri", "label"), wanted=_WANTED, given=tuple(given), strict=True)
        for _, row in found:
            yield {**row, **{name: value for name, value in given.items() if name in ("uri", "label", *_WANTED)}}
    except MissingColumnsError as error:
        raise LabelledDataError(
            f"{shown} has no column {' and '.join(sorted(error.missing))} (it has: {error.found}); a labelled table has "
            "uri,label[,split][,group][,source]."
        ) from error
    except TableError as error:
        raise LabelledDataError(f"{shown} {error}.") from error


def _members(uris: Sequence[str], data: Place) -> dict[str, Entry]:
    """Where the members of archives among `uris` stand; an archive is opened once."""
    chosen: dict[str, list[tuple[str, str]]] = {}
    for uri in dict.fromkeys(uris):
        if "::" in uri and not (storage.is_local(uri) and os.path.lexists(uri)) and (member := names.split_member(uri)):
            chosen.setdefault(member[0], []).append((uri, member[1]))
    found: dict[str, Entry] = {}
    for container, members in chosen.items():
        entries = open_members(container, [name for _, name in members], options=data.options, size_limit=SIZE_LIMIT)
        found |= {uri: entry for (uri, _), entry in zip(members, entries, strict=True)}
    return found


def located(entry: Entry) -> dict[str, object]:
    """The columns of a labelled table that say where an image is, its `size` and `modified` as this machine's disk has them now."""
    row: dict[str, object] = {name: getattr(entry, name) for name in Entry.__dataclass_fields__ if name in SCHEMA.names}
    file = entry.container or (entry.uri if entry.frame is None else names.file_of(entry.uri))
    if storage.is_local(file):
        try:
            found = os.stat(file)  # noqa: PTH116 - one call for both, and names may hold anything
            row |= {"modified": found.st_mtime_ns} | ({} if entry.container else {"size": found.st_size})
        except OSError:
            pass  # reading it gives the row its reason
    return row
