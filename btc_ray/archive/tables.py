"""Tables that people give, lists of images and labelled ones, as rows of texts: CSV with any usual separator, tab-separated and plain
text, Parquet, and folders of parts as Spark writes them. Values stay as they stand: 0001 and 1.10 are texts.
"""

import csv
import io
import itertools
import os
import posixpath
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from btc_ray import storage
from btc_ray.archive import names
from btc_ray.archive.entries import ArchiveError
from btc_ray.archive.ranges import open_ranges, open_stream
from btc_ray.storage.limits import LINE_LIMIT, SIZE_LIMIT
from btc_ray.storage.retries import explain, retrying
from btc_ray.storage.tables import PlainParquet

Row = tuple[str, dict[str, str | None]]  # where it stands ("line 7"), and its cells; an empty one is None
Part = tuple[str, dict[str, str | None]]  # a file of a table, and the columns that its folders name (label=glioma)

_SEPARATORS = (",", ";", "\t", "|")
_SEPARATOR_WORDS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_NO_TEXT = {
    b"PK\3\4": "an Excel workbook or a zip archive (save the table as CSV UTF-8)",
    b"\xd0\xcf\x11\xe0": "an Excel workbook (save the table as CSV UTF-8)",
    b"\x1f\x8b": "packed with gzip (unpack it)",
    b"PAR1": "Parquet (name it .parquet)",
}
_BATCH = 5_000
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_DEEPEST = 5  # columns that are folders


class TableError(ArchiveError):
    """A table that cannot be read; the message says why, after the table's name, and quotes nothing of it but names of columns."""


class MissingColumnsError(TableError):
    """A table without a column that is needed. `missing` names those; `found` says what it has, in words."""

    def __init__(self, missing: Sequence[str], found: str) -> None:
        super().__init__(f"has no column {' and '.join(repr(name) for name in missing)} (it has: {found})")
        self.missing, self.found = tuple(missing), found


def table_parts(uri: str, options: storage.Options = None) -> list[Part] | None:
    """The files of a folder that is one table, sorted by name, or None for anything else.

    In such a folder are only CSV or Parquet files and folders like `label=glioma`; what begins with `_` or `.` is not looked at. Its
    name ends as a table's does, or it holds `_SUCCESS`, or all its files are called `part-…`; of remote folders the name decides.
    """
    if storage.is_local(uri):
        path = storage.local_path(uri)
        parts = _parts_in(path, {}, options, 0) if os.path.isdir(path) else None  # noqa: PTH112 — names may hold anything
        named = names.list_kind(names.last_name(path)) or os.path.lexists(f"{path}/_SUCCESS")
        return parts if named or all(names.last_name(part).startswith("part-") for part, _ in parts or ()) else None
    if names.list_kind(names.last_name(uri)) is None or storage.scheme(uri) in ("http", "https"):
        return None
    fs, path = storage.filesystem(uri, options)
    return _parts_in(uri.rstrip("/"), {}, options, 0) if retrying(lambda: fs.isdir(path)) else None


def _parts_in(folder: str, columns: dict[str, str | None], options: storage.Options, depth: int) -> list[Part] | None:
    parts: list[Part] = []
    folders: list[str] = []
    for name, is_folder in _names_in(folder, options):
        if name.startswith(("_", ".")):
            continue
        key, equals, _ = name.partition("=")
        if is_folder and equals and key and depth < _DEEPEST:
            folders.append(name)
        elif not is_folder and names.list_kind(name) in ("csv", "parquet"):
            parts.append((f"{folder}/{name}", columns))
        else:
            return None  # the first image tells that this is no table
    parts.sort(key=lambda part: part[0])
    for name in sorted(folders):
        key, _, value = name.partition("=")
        inner = _parts_in(f"{folder}/{name}", columns | {key: None if value == _NO_VALUE else unquote(value)}, options, depth + 1)
        if inner is None:
            return None
        parts += inner
    return parts or None


def _names_in(folder: str, options: storage.Options) -> Iterator[tuple[str, bool]]:
    if storage.is_local(folder):
        try:
            with os.scandir(folder) as entries:
                yield from ((entry.name, entry.is_dir()) for entry in entries)
        except OSError:  # the listing makes a row of it
            yield "closed", True
        return
    fs, path = storage.filesystem(folder, options)
    for info in retrying(lambda: fs.ls(path, detail=True)):
        name = info["name"].rstrip("/").rpartition("/")[2]
        if info["name"].rstrip("/") != path.rstrip("/"):
            yield name, info["type"] == "directory"


def table_rows(
    uri: str,
    options: storage.Options,
    *,
    needed: Sequence[str],
    wanted: Sequence[str] = (),
    given: Sequence[str] = (),
    strict: bool = False,
) -> Iterator[Row]:
    """The rows of one table file, with the columns `needed` and, where it has them, `wanted`; `given` are those of its folders.

    Columns go by their names, in any case and with spaces around them. Raises TableError, with `strict` also for a line that has more
    cells than its header.
    """
    kind = names.list_kind(names.last_name(uri))
    read = _parquet_rows if kind == "parquet" else _text_rows
    try:
        yield from read(uri, options, [name for name in needed if name not in given], [*wanted], strict, kind == "text")
    except storage.StorageError:
        raise
    except UnicodeDecodeError as error:
        raise TableError(f"is not UTF-8 text (byte {error.start}); save it as UTF-8 (Excel: CSV UTF-8)") from error
    # What Arrow raises for bytes that are no Parquet; "not implemented" is what it calls an encoding that damage has made up.
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise TableError("is damaged: it is no Parquet file, or cut off") from error
    except csv.Error as error:
        raise TableError(f"is damaged: {error}") from error
    except FileNotFoundError as error:
        raise TableError("does not exist") from error
    except Exception as error:
        raise TableError(f"cannot be read: {explain(error)}") from error


def _text_rows(
    uri: str, options: storage.Options, needed: list[str], wanted: list[str], strict: bool, may_be_bare: bool
) -> Iterator[Row]:
    with _text(uri, options) as text:
        lines = _lines(text)
        number, header = next(((number, line) for number, line in lines if line.strip()), (0, ""))
        separator = None
        if header.lower().startswith("sep=") and len(header.strip()) == 5:  # a hint for Excel
            separator = header.strip()[4]
            number, header = next(lines, (0, ""))
        if may_be_bare and separator is None and not _is_header(header):
            yield from _bare_rows(itertools.chain([(number, header)] if header else [], lines), needed)
            return
        separator = separator or _separator(header, [*needed, *wanted])
        columns = _cells(header, separator)
        chosen = _chosen(columns, needed, wanted)
        before = number
        table = csv.reader((line for _, line in lines), delimiter=separator)
        for cells in table:
            if not cells:
                continue
            where = f"line {before + table.line_num}"
            if strict and any(cells[len(columns) :]):
                raise TableError(
                    f"has {len(cells)} cells in {where} and {len(columns)} in its header: "
                    f"put what holds a {_SEPARATOR_WORDS.get(separator, 'separator')} in quotes"
                )
            yield where, {name: (cells[place] or None) if place < len(cells) else None for name, place in chosen.items()}


def _bare_rows(lines: Iterator[tuple[int, str]], needed: Sequence[str]) -> Iterator[Row]:
    """A URI a line; lines that begin with # are remarks."""
    if missing := [name for name in needed if name != "uri"]:
        raise MissingColumnsError(missing, "no header; each line is taken for a path")
    for number, line in lines:
        entry = line.strip()
        if entry and not entry.startswith("#"):
            yield f"line {number}", {"uri": entry}


def _is_header(line: str) -> bool:
    return any(len(cells := _cells(line, separator)) > 1 and "uri" in _plain(cells) for separator in _SEPARATORS)


def _text(uri: str, options: storage.Options) -> io.TextIOWrapper:
    raw = open_stream(uri, options)
    buffered = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(raw)  # type: ignore[type-var]
    head = buffered.peek(8)[:8]
    if what := next((what for beginning, what in _NO_TEXT.items() if head.startswith(beginning)), None):
        raise TableError(f"is {what}, whatever its name says")
    wide = buffered.peek(2)[:2] in (b"\xff\xfe", b"\xfe\xff")  # "Unicode text" of Excel
    return io.TextIOWrapper(buffered, "utf-16" if wide else "utf-8-sig", newline="")


def _lines(text: io.TextIOWrapper) -> Iterator[tuple[int, str]]:
    for number in itertools.count(1):
        line = text.readline(LINE_LIMIT + 1)
        if len(line) > LINE_LIMIT:
            raise TableError(f"has more than {LINE_LIMIT:,} characters in line {number}: it is no list or table of images")
        if not line:
            return
        yield number, line


def _cells(line: str, separator: str) -> list[str]:
    return next(csv.reader([line], delimiter=separator), [])


def _plain(columns: Sequence[str]) -> list[str]:
    return [column.strip().lower() for column in columns]


def _separator(header: str, asked: Sequence[str]) -> str:
    """The one that parts the header into the most columns that are asked for, then into the most."""
    cells = {separator: _plain(_cells(header, separator)) for separator in _SEPARATORS}
    return max(_SEPARATORS, key=lambda separator: (len(set(asked) & set(cells[separator])), len(cells[separator])))


def _chosen(columns: Sequence[str], needed: Sequence[str], wanted: Sequence[str]) -> dict[str, int]:
    """Where each column stands. Raises MissingColumnsError."""
    plain = _plain(columns)
    for name in (*needed, *wanted):
        if columns.count(name) > 1 or (name not in columns and plain.count(name) > 1):
            raise TableError(f"has two columns called {name!r}: leave one of them")
    places = {name: columns.index(name) if name in columns else plain.index(name) for name in (*needed, *wanted) if name in plain}
    if missing := [name for name in needed if name not in places]:
        raise MissingColumnsError(missing, _shown(columns))
    return places


def _shown(columns: Sequence[str]) -> str:
    """The names of columns, where they look like such: the first line of some other file is not shown."""
    plain = [column.strip() for column in columns]
    if not all(name.replace("_", "").replace("-", "").replace(" ", "").isalnum() and len(name) <= 30 for name in plain):
        return "none that look like names of columns"
    return ", ".join(plain[:12]) + (" …" if len(plain) > 12 else "") or "none"


def _parquet_rows(
    uri: str, options: storage.Options, needed: list[str], wanted: list[str], strict: bool, may_be_bare: bool
) -> Iterator[Row]:
    del strict, may_be_bare  # of text
    ranges = open_ranges(uri, options)
    with pq.ParquetFile(pa.PythonFile(PlainParquet(ranges.read, ranges.size), mode="r")) as file:
        schema = file.schema_arrow
        chosen = _chosen(schema.names, needed, wanted)
        for name, place in chosen.items():
            _check_type(name, schema.field(place).type)
        _check_sizes(file.metadata, {schema.names[place] for place in chosen.values()})
        number = 0
        columns = {name: schema.names[place] for name, place in chosen.items()}
        for batch in file.iter_batches(columns=list(columns.values()), batch_size=_BATCH):
            values = {name: batch.column(column).to_pylist() for name, column in columns.items()}
            for place in range(len(batch)):
                yield f"row {number}", {name: _as_text(cells[place]) for name, cells in values.items()}
                number += 1


def _check_type(name: str, kind: pa.DataType) -> None:
    """Only text (for labels, groups and splits numbers too), by the schema, before a value is read: other types may hold objects."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind):
        return
    if name != "uri" and (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        return
    what = (
        "bytes, as objects of a program are stored," if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) else f"{kind}"
    )
    raise TableError(f"holds {what} in its column {name!r}; only text is read: save it with text in that column")


def _check_sizes(metadata: Any, columns: set[str]) -> None:
    for group in range(metadata.num_row_groups):
        for place in range(metadata.num_columns):
            column = metadata.row_group(group).column(place)
            if column.path_in_schema in columns and column.total_uncompressed_size > SIZE_LIMIT:
                raise TableError(
                    f"claims more than 1 GiB for one piece of its column {column.path_in_schema!r}; write it in smaller pieces"
                )


def _as_text(value: object) -> str | None:
    return None if value is None or value == "" else str(value)


def folder_of(uri: str) -> str:
    """The folder that a table stands in: relative entries begin there."""
    if storage.scheme(uri) in ("http", "https"):
        uri = uri.partition("?")[0]
    return uri.rpartition("/")[0] or "/"


def placed(folder: str, entry: str) -> str:
    """An entry of a table as an absolute path or a URI. Backslashes part folders where only that exists, as in tables made on Windows."""
    uri = _placed(folder, entry)
    if "\\" in entry and storage.is_local(uri) and not _is_there(uri):
        slashed = _placed(folder, entry.replace("\\", "/"))
        return slashed if _is_there(slashed) else uri
    return uri


def _placed(folder: str, entry: str) -> str:
    if not storage.is_local(entry) or entry.startswith("/") or entry.lower().startswith("file:/"):
        return storage.absolute(entry)
    if storage.is_local(folder):
        return storage.absolute(f"{folder}/{entry}")
    head, _, path = folder.partition("://")
    return f"{head}://{posixpath.normpath(f'{path}/{entry}')}"


def _is_there(path: str) -> bool:
    member = names.split_member(path)
    return os.path.lexists(path) or (member is not None and os.path.lexists(member[0]))
