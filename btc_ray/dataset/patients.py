"""Whose the images are: a table of patients laid beside labelled images, so that no patient stands on two sides of a split.

Slices of one patient are alike, and a model that has seen some of them knows more of the others than it would of a new patient's.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from btc_ray import storage
from btc_ray.archive.tables import TableError, table_parts, table_rows
from btc_ray.dataset.groups import join_groups
from btc_ray.dataset.table import SCHEMA, LabelledDataError
from btc_ray.progress import say
from btc_ray.storage import Place

_NAMES = ("path", "uri", "key")


@dataclass(frozen=True, kw_only=True)
class _Whose:
    """Whose an image is."""

    patient: str
    examination: str | None


def with_patients(table: pa.Table, data: Place, groups: str | None) -> pa.Table:
    """The labelled table with the patients of `groups` in its column `group`, joined with the groups that it names itself; says how many
    images have a patient, and that those without are on their own.

    Args:
        table: as `read_labelled` gives it.
        groups: the URI of a CSV or Parquet table with `patient[,examination]` and one of `path` (relative to `data`), `uri`, or `key`
            (a file's name); None: the table as it is.

    Raises LabelledDataError for a table that names no patient of any image, or two patients of one.
    """
    if groups is None:
        _say_unit(table)
        return table
    patients = _read(data.at(groups))
    root = f"{storage.absolute(data.uri).rstrip('/')}/"
    whose = [_whose(str(uri), root, patients) for uri in table["uri"].to_pylist()]
    found = [None if known is None else known.patient for known in whose]
    if not any(found):
        example = next((name for _, name in patients), "nothing")
        raise LabelledDataError(
            f"--groups {groups} names none of the images of {data} (it names {example!r}, the data {table['uri'][0].as_py()!r}): its "
            "column path is relative to --data, uri is absolute, key is a file's name."
        )
    own = table["group"].to_pylist()
    joined = join_groups(found, own) if any(name is not None for name in own) else None
    names = found if joined is None else [f"joined-{number}" for number in joined]
    kept = [
        name if patient is not None or given is not None else None for name, patient, given in zip(names, found, own, strict=True)
    ]
    say(
        f"{groups} names the patient of {sum(name is not None for name in found):,} of {len(table):,} images, "
        f"{len(set(found) - {None}):,} patients in all."
    )
    table = table.set_column(table.schema.get_field_index("group"), SCHEMA.field("group"), pa.array(kept, pa.string()))
    examinations = [None if known is None else known.examination for known in whose]
    place = table.schema.get_field_index("examination")
    table = table.set_column(place, SCHEMA.field("examination"), pa.array(examinations, pa.string()))
    _say_unit(table)
    return table


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


def _read(groups: Place) -> dict[tuple[str, str], _Whose]:
    """The name of a column and what stands in it → whose it is. Raises LabelledDataError."""
    found: dict[tuple[str, str], _Whose] = {}
    try:
        parts = table_parts(groups.uri, groups.options) or [(groups.uri, {})]
        for uri, _ in parts:
            for number, row in table_rows(uri, groups.options, needed=("patient",), wanted=(*_NAMES, "examination"), strict=True):
                names = [(column, text) for column in _NAMES if (text := row.get(column))]
                if not names:
                    raise LabelledDataError(f"--groups {groups}: row {number} has neither path nor uri nor key.")
                if not row["patient"]:
                    continue
                whose = _Whose(patient=row["patient"], examination=row.get("examination") or None)
                for name in names:
                    if found.setdefault(name, whose).patient != whose.patient:
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
