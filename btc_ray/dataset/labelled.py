"""A labelled data set ready to learn from or to measure with: crops, groups of copies, and who is on which side.

Only jobs that use Ray load this module.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from btc_ray.dataset.copies import Copies, find_copies, join_groups
from btc_ray.dataset.crops import Crops, labelled_crops
from btc_ray.dataset.groups import without_common_class
from btc_ray.dataset.several import membership
from btc_ray.dataset.split import LEFT_OUT, SPLITS, fold_of_groups, split_as_published, split_by_group, split_of_fold
from btc_ray.dataset.table import LabelledDataError, class_names, fingerprint, several_names
from btc_ray.images.prepare import Preprocess
from btc_ray.progress import say
from btc_ray.storage import Place

METHOD = 1  # raise it when `find_copies` finds others: what is cached then stays aside
COMPARED = Preprocess(crop="robust", size=224)  # copies are looked for in these crops, whatever the model is trained on

SPLIT_SCHEMA = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("content_sha256", pa.string()),
        pa.field("label", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),  # train, validation, test, left_out
        pa.field("group", pa.int64(), nullable=False),
        pa.field("reason", pa.string()),  # why it is left out
        pa.field(
            "fold", pa.int64()
        ),  # in which it was measured by a model that never saw its group; null: without --folds, or left out
    ]
)


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """All images that could be cropped, in the order of the listing.

    `labels` int64 (N,): positions in `classes`, and after these in `several`, the labels that name several classes; `copies` int64
    (N,): groups of copies; `groups` int64 (N,): those joined with the groups that the data names (patients); `split` `<U10` (N,):
    train, validation, test or left_out, with `reasons` for the latter; `examinations`: their names, None where one is not known;
    `folds` int64 (N,): in which fold each measures, −1 for those left out, or None where there are no folds, and where there are,
    `split` is that of a model for which nobody measures.
    """

    crops: Crops
    classes: tuple[str, ...]
    labels: np.ndarray
    copies: np.ndarray
    groups: np.ndarray
    split: np.ndarray
    reasons: tuple[str | None, ...]
    examinations: tuple[str | None, ...]
    folds: np.ndarray | None = None
    several: tuple[str, ...] = ()

    @property
    def members(self) -> np.ndarray | None:
        """bool (classes + several, classes): which classes each label names; None where all name one."""
        return membership((*self.classes, *self.several), self.classes) if self.several else None

    def of_one_class(self, positions: np.ndarray) -> np.ndarray:
        """Those of the positions whose label names one class: what is calibrated and measured class by class."""
        return positions[self.labels[positions] < len(self.classes)]

    def rows(self, split: str) -> np.ndarray:
        """Positions of the images of a split."""
        return np.flatnonzero(self.split == split)

    def of_fold(self, fold: int, *, validation: float, seed: int) -> "LabelledImages":
        """The same images, of which this fold's measure. Raises SplitError."""
        assert self.folds is not None
        names = self.crops.rows["label"].to_pylist()
        return replace(self, split=split_of_fold(names, self.groups, self.folds, fold, validation=validation, seed=seed))

    def row_ids(self, positions: np.ndarray) -> np.ndarray:
        """int64: the row_id of the images at these positions."""
        return self.crops.rows["row_id"].to_numpy()[positions]

    def table(self) -> pa.Table:
        """Who was on which side, and why not: SPLIT_SCHEMA."""
        rows = self.crops.rows
        folds = [None] * len(rows) if self.folds is None else [fold if fold >= 0 else None for fold in self.folds.tolist()]
        return pa.table(
            [rows["uri"], rows["content_sha256"], rows["label"], self.split.tolist(), self.groups, list(self.reasons), folds],
            schema=SPLIT_SCHEMA,
        )

    def counts(self) -> dict[str, Any]:
        """Images of each class in each split, and of each reason to leave one out."""
        found: dict[str, Any] = {
            name: {
                which: int((self.labels[self.rows(name)] == number).sum())
                for number, which in enumerate((*self.classes, *self.several))
            }
            for name in SPLITS
        }
        left_out = dict(self.crops.skipped)
        for reason in self.reasons:
            if reason is not None:
                left_out[reason] = left_out.get(reason, 0) + 1
        return found | {"left_out": left_out}


def load_labelled(
    table: pa.Table,
    *,
    preprocess: Preprocess,
    method: str,
    validation: float,
    test: float,
    seed: int,
    doubt: float | None = None,
    held: Mapping[str, str] | None = None,
    folds: int | None = None,
    cache: Place,
) -> LabelledImages:
    """Crop, find copies and split. Needs a Ray that is joined. Raises SplitError, and
    LabelledDataError where no image of a class can be read.

    Args:
        table: as `read_labelled` gives it.
        method: `group` or `folders`.
        doubt: leave out images whose crop has at least this doubt; never those of a published test set.
        held: content_sha256 → split of the images that a model to be compared with knew.
        folds: in so many folds everyone measures once; `test` and the published split are then not looked at.
    """
    classes, several = class_names(table), several_names(table)
    copies = copy_groups(table, cache=cache)
    crops = labelled_crops(table, preprocess=preprocess, cache=cache)
    if unread := sorted(set(classes) - set(crops.rows["label"].to_pylist())):
        raise LabelledDataError(
            f"no image of {' or '.join(unread)} could be read ({dict(crops.skipped)}); what was left out is named above."
        )
    places = np.searchsorted(table["row_id"].to_numpy(), crops.rows["row_id"].to_numpy())
    copies = copies[places]
    place = {name: number for number, name in enumerate((*classes, *several))}
    labels = np.array([place[name] for name in crops.rows["label"].to_pylist()], np.int64)
    given_groups = crops.rows["group"].to_pylist()
    groups = join_groups(copies.tolist(), given_groups)
    published = np.array([name == "test" for name in crops.rows["split"].to_pylist()])
    reasons = np.full(len(labels), None, dtype=object)
    reasons[without_common_class(copies, membership((*classes, *several), classes)[labels])] = (
        "copies of this image have another label"
    )
    if doubt is not None:
        reasons[np.asarray(crops.rows["doubt"]) >= doubt] = f"its crop's doubt is {doubt:g} or more"
    names = crops.rows["label"].to_pylist()
    out = np.array([reason is not None for reason in reasons])
    fold_of = None
    if folds:
        fold_of = fold_of_groups(names, np.where(out, -1, groups), folds=folds, seed=seed)
        split = split_of_fold(names, groups, fold_of, None, validation=validation, seed=seed)
    elif method == "folders":
        split = split_as_published(
            names,
            crops.rows["split"].to_pylist(),
            np.where(out, -1, copies),
            join_groups(given_groups),
            validation=validation,
            seed=seed,
        )
        reasons[published] = None  # the published test set is what it is
        reasons[(split == LEFT_OUT) & ~out] = "its group has an image in the published test set"
    else:
        known = None if held is None else [held.get(sha) for sha in crops.rows["content_sha256"].to_pylist()]
        split = split_by_group(names, np.where(out, -1, groups), validation=validation, test=test, seed=seed, held=known)
    left_out = sum(reason is not None for reason in reasons)
    sizes = [] if fold_of is None else np.bincount(fold_of[fold_of >= 0]).tolist()
    sides = [f"folds of {', '.join(f'{size:,}' for size in sizes)}"] if sizes else []
    sides = sides or [f"{(split == name).sum():,} {name}" for name in SPLITS]
    say(f"{len(labels):,} images in {len(np.unique(copies)):,} groups of copies; {', '.join(sides)}, {left_out:,} left out.")
    return LabelledImages(
        crops=crops,
        classes=classes,
        labels=labels,
        copies=copies,
        groups=groups,
        split=split,
        reasons=tuple(reasons),
        examinations=tuple(table["examination"].take(pa.array(places)).to_pylist()),
        folds=fold_of,
        several=several,
    )


def copy_groups(table: pa.Table, *, cache: Place) -> np.ndarray:
    """The group of copies of each row of a labelled table: int64 (N,), from `cache` where they were found before.

    What cannot be read is a group of its own. Needs a Ray that is joined.
    """
    found, _ = _copies_places(table, cache)
    if found.exists():
        return found.read_table()["group"].to_numpy()
    return labelled_copies(table, cache=cache).groups


def labelled_copies(table: pa.Table, *, crops: Crops | None = None, cache: Place) -> Copies:
    """`copy_groups` with the pairs that made the groups; `first` and `second` are positions in the table. `crops` are those of
    COMPARED, where they are at hand."""
    groups_place, pairs_place = _copies_places(table, cache)
    if groups_place.exists() and pairs_place.exists():
        return Copies(groups=groups_place.read_table()["group"].to_numpy(), pairs=pairs_place.read_table())
    crops = crops or labelled_crops(table, preprocess=COMPARED, cache=cache)
    say(f"Looking for copies among {len(crops.rows):,} images …")
    found = find_copies(crops.pixels, crops.rows["content_sha256"].to_pylist())
    group_of = dict(zip(crops.rows["row_id"].to_pylist(), found.groups.tolist(), strict=True))
    groups = join_groups([group_of.get(row) for row in table["row_id"].to_pylist()])
    position = np.searchsorted(table["row_id"].to_numpy(), crops.rows["row_id"].to_numpy())
    pairs = found.pairs
    for place, end in enumerate(("first", "second")):
        pairs = pairs.set_column(place, pairs.schema.field(end), pa.array(position[pairs[end].to_numpy()]))
    if not crops.skipped.get("failed"):  # what could not be read today may be readable tomorrow
        pairs_place.write_table(pairs)
        groups_place.write_table(pa.table({"row_id": table["row_id"], "group": groups}))
    return Copies(groups=groups, pairs=pairs)


def _copies_places(table: pa.Table, cache: Place) -> tuple[Place, Place]:
    """Where the groups of copies are kept, and the pairs that made them."""
    name = f"copies-{fingerprint(table)}-{COMPARED.preprocess_id}-{METHOD}"
    return cache / f"{name}.parquet", cache / f"{name}-pairs.parquet"


def kept_splits(table: pa.Table) -> dict[str, str]:
    """content_sha256 → split of a `split.parquet`, without the images that were left out."""
    pairs = zip(table["content_sha256"].to_pylist(), table["split"].to_pylist(), strict=True)
    return {sha: split for sha, split in pairs if sha is not None and split != LEFT_OUT}
