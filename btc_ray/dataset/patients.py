"""Whose the images are: a table of patients laid beside labelled images, so that no patient stands on two sides of a split.

Slices of one patient are alike, and a model that has seen some of them knows more of the others than it would of a new patient's.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from btc_ray import storage
from btc_ray.archive import names
from btc_ray.archive.tables import TableError, table_parts, table_rows
from btc_ray.dataset.groups import join_groups
from btc_ray.dataset.published import Published, recognise
from btc_ray.dataset.table import SCHEMA, LabelledDataError, is_private
from btc_ray.progress import say
from btc_ray.storage import Place

_NAMES = ("path", "uri", "key")
_NAMED_BY = "column path is relative to --data, uri is absolute, key is a file's name."


@dataclass(frozen=True, kw_only=True)
class _Whose:
    """Whose an image is."""

    patient: str
    examination: str | None


def with_patients(
    table: pa.Table, data: Place, groups: str | None, *, published_sides: bool = False, keep_labels: bool = False
) -> pa.Table:
    """The labelled table with patients in its column `group`, joined with the groups that it names itself, and with examinations; says
    how many images have a patient, and that those without are on their own.

    Args:
        table: as `read_labelled` gives it.
        groups: the URI of a CSV or Parquet table with `patient[,examination]` and one of `path` (relative to `data`), `uri`, or `key`
            (a file's name); `none`: the table as it is; None: that of the published data set, where these are its images.
        published_sides: the published split is to be kept, on both sides of which patients stand: it is not looked for then.
        keep_labels: leave labels that the authors of the published images contradict.

    Raises LabelledDataError for a table that names no patient of any image, or two patients of one.
    """
    if groups is None and not published_sides and (found := recognise(table, data.options)) is not None:
        table = table if keep_labels else _corrected(table, found)
        return _joined(
            table, [None if one is None else _Whose(patient=one.patient, examination=one.examination) for one in found]
        )
    if groups in (None, "none"):
        _say_unit(table)
        return table
    private = is_private(table)
    patients = _read(data.at(str(groups)), private=private)
    root = f"{storage.absolute(data.uri).rstrip('/')}/"
    whose = [_whose(file, root, patients) for file in _files(table)]
    if not any(whose):
        if private:
            raise LabelledDataError(f"--groups names none of the {len(table):,} images of --data: {_NAMED_BY}")
        example = next((name for _, name in patients), "nothing")
        raise LabelledDataError(
            f"--groups {groups} names none of the images of {data} (it names {example!r}, the data {table['uri'][0].as_py()!r}): its "
            f"{_NAMED_BY}"
        )
    known = [one.patient for one in whose if one is not None]
    named = "--groups" if private else groups
    say(f"{named} names the patient of {len(known):,} of {len(table):,} images, {len(set(known)):,} patients in all.")
    return _joined(table, whose)


def _joined(table: pa.Table, whose: Sequence[_Whose | None]) -> pa.Table:
    """The table with patients and examinations, said aloud."""
    found = [None if known is None else known.patient for known in whose]
    own = table["group"].to_pylist()
    joined = join_groups(found, own) if any(name is not None for name in own) else None
    united = found if joined is None else [f"joined-{number}" for number in joined]
    kept = [
        name if patient is not None or given is not None else None
        for name, patient, given in zip(united, found, own, strict=True)
    ]
    examinations = [None if known is None else known.examination for known in whose]
    for column, values in (("group", kept), ("examination", examinations)):
        table = table.set_column(table.schema.get_field_index(column), SCHEMA.field(column), pa.array(values, pa.string()))
    _say_unit(table)
    return table


def _corrected(table: pa.Table, found: Sequence[Published | None]) -> pa.Table:
    """The table with the labels that the authors of the images gave them, where their folder says otherwise; each is said."""
    labels = table["label"].to_pylist()
    classes = set(labels)
    for row, known in enumerate(found):
        if known is not None and known.label in classes and labels[row] != known.label:
            name = str(table["uri"][row]).rpartition("/")[2]
            say(
                f"{name}: {labels[row]} is corrected to {known.label}, as the authors of the image have it. --keep-labels leaves it."
            )
            labels[row] = known.label
    return table.set_column(table.schema.get_field_index("label"), SCHEMA.field("label"), pa.array(labels, pa.string()))


def _say_unit(table: pa.Table) -> None:
    """What a split keeps together, and how much of the data that covers."""
    named = [name for name in table["group"].to_pylist() if name is not None]
    if not named:
        say(
            "No image names its patient: images that are copies of each other stay on one side of a split, slices of one patient may not."
        )
        return
    share = f"{len(named):,} of {len(table):,} images ({len(named) / len(table):.0%})"
    others = "" if len(named) == len(table) else " Of the others only copies are known."
    say(
        f"{share} are of {len(set(named)):,} named groups (patients); each stays on one side of a split, with its copies.{others}"
    )


def _files(table: pa.Table) -> Iterator[str]:
    """The URI of the file of each image."""
    uris = pc.coalesce(table["read_from"], table["uri"]).to_pylist()
    for uri, frame in zip(uris, table["frame"].to_pylist(), strict=True):
        yield str(uri) if frame is None else names.file_of(str(uri))


def _read(groups: Place, *, private: bool) -> dict[tuple[str, str], _Whose]:
    """The name of a column and what stands in it → whose it is. Raises LabelledDataError, which quotes nothing where paths are
    `private`."""
    found: dict[tuple[str, str], _Whose] = {}
    try:
        parts = table_parts(groups.uri, groups.options) or [(groups.uri, {})]
        for uri, _ in parts:
            for number, row in table_rows(uri, groups.options, needed=("patient",), wanted=(*_NAMES, "examination"), strict=True):
                given = [(column, text) for column in _NAMES if (text := row.get(column))]
                if not given:
                    raise LabelledDataError(f"--groups {groups}: row {number} has neither path nor uri nor key.")
                if not row["patient"]:
                    continue
                whose = _Whose(patient=row["patient"], examination=row.get("examination") or None)
                for name in given:
                    if found.setdefault(name, whose).patient != whose.patient:
                        if private:
                            raise LabelledDataError(f"--groups names two patients of one image: see its row {number}.")
                        raise LabelledDataError(
                            f"--groups {groups} names two patients of {name[1]}: {found[name].patient} and {whose.patient}."
                        )
    except TableError as error:
        raise LabelledDataError(f"--groups {groups} {error}.") from error
    except FileNotFoundError as error:
        raise LabelledDataError(f"--groups {groups} is not there.") from error
    return found


def _whose(uri: str, root: str, patients: Mapping[tuple[str, str], _Whose]) -> _Whose | None:
    names = (("uri", uri), ("path", uri.removeprefix(root)), ("key", uri.rpartition("/")[2]))
    return next((patients[name] for name in names if name in patients), None)
