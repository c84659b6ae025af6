"""Out-of-fold answers as a table holds them, ready for a threshold to be chosen by: who was right, how sure, whose the images are."""

import numpy as np
import pyarrow as pa

from btc_ray.errors import UserError
from btc_ray.model.bundle.columns import column_names, probability_columns
from btc_ray.training.guarantee import HeldOut

OUT_OF_FOLD = "out-of-fold"
NEEDED = ("label", "group")


class HeldOutError(UserError):
    """A table that is no record of held-out answers."""


def held_out_answers(table: pa.Table) -> HeldOut:
    """The answers of `out_of_fold.parquet`: `label`, `group`, one column of probabilities a class, and `patient`, where one is known.

    A label of several classes (`glioma|meningioma`) is answered rightly by each of them. All images are candidates: a fold's distances
    are of its own model. Raises HeldOutError for a table without these columns, or of labels that are no column's class.
    """
    columns = probability_columns(table.column_names)
    if missing := [name for name in NEEDED if name not in table.column_names]:
        raise HeldOutError(f"a table of out-of-fold answers has {', '.join(NEEDED)}; this one has no {' and no '.join(missing)}.")
    if len(columns) < 2:
        raise HeldOutError("a table of out-of-fold answers has one column of probabilities (prob_<class>) for each class.")
    labels = [label.split("|") for label in table["label"].to_pylist()]
    names = sorted({name for label in labels for name in label})
    column_of = dict(zip(names, column_names(names), strict=True))
    if odd := [name for name in names if column_of[name] not in columns]:
        raise HeldOutError(
            f"the label {odd[0]!r} has no column {column_of[odd[0]]} of probabilities (there are {', '.join(columns)})."
        )
    probabilities = np.column_stack([table[name].to_numpy(zero_copy_only=False) for name in columns]).astype(float)
    said = probabilities.argmax(axis=1)
    meant = [{columns.index(column_of[name]) for name in label} for label in labels]
    patients = table["patient"].to_pylist() if "patient" in table.column_names else [None] * len(table)
    known = sum(patient is not None for patient in patients)
    units = [
        f"group {group}" if patient is None else f"patient {patient}"
        for patient, group in zip(patients, table["group"].to_pylist(), strict=True)
    ]
    return HeldOut(
        confidence=probabilities.max(axis=1),
        right=np.array([place in right for place, right in zip(said.tolist(), meant, strict=True)], bool),
        units=np.unique(units, return_inverse=True)[1],
        candidates=np.ones(len(table), bool),
        answers=OUT_OF_FOLD,
        unit=f"patient ({known:,} of {len(table):,} images), else group of copies" if known else "group of copies",
    )
