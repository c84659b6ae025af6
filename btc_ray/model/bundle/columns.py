"""The columns that hold a model's probabilities: one a class, in the order of the classes."""

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence

PREFIX = "prob_"


def column_names(classes: Sequence[str]) -> tuple[str, ...]:
    """`prob_<class>` for each class, of letters, digits and underscores only, and none twice whatever its case: what Hive, Athena,
    BigQuery, Delta and Spark before 3.3 take for a column. `Métastase` is `prob_Metastase`, `no tumor` is `prob_no_tumor`."""
    found: list[str] = []
    taken: set[str] = set()
    for number, name in enumerate(classes):
        bare = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
        plain = re.sub(r"[^A-Za-z0-9]+", "_", bare).strip("_") if name != bare or re.search(r"\W", bare) else bare
        column = f"{PREFIX}{plain or f'class_{number}'}"
        while column.casefold() in taken:
            column += f"_{number}"
        taken.add(column.casefold())
        found.append(column)
    return tuple(found)


def columns_of(classes: Sequence[str], columns: Sequence[str]) -> tuple[str, ...]:
    """The columns that were recorded for the classes; `prob_<class>` where none were, as in bundles and runs of before 0.2.0."""
    return tuple(columns) or tuple(f"{PREFIX}{name}" for name in classes)


def class_metadata(classes: Sequence[str]) -> dict[str, str]:
    """What the metadata of a table say of the classes: joined by commas, and as JSON, for a name may hold a comma."""
    return {"classes": ",".join(classes), "classes_json": json.dumps(list(classes), ensure_ascii=False)}


def probability_columns(columns: Iterable[str]) -> list[str]:
    """Those of a table of scores that hold a probability, which stand in the order of the classes."""
    return [name for name in columns if name.startswith(PREFIX)]
