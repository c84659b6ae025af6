"""What was found about a labelled data set, as one table (a row an image) and one record for `json.dumps`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from btc_ray.dataset.copies import Copies, contradicting, join_groups
from btc_ray.dataset.kinds import KINDS, closest_kinds
from btc_ray.phantoms.phantom import VIEWS
from btc_ray.reports.audit.label_doubts import Doubts
from btc_ray.reports.shared.tally import Causes, cause

IMAGES = pa.schema(
    [
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("split", pa.string()),  # train, test, or null: the data does not say
        pa.field("status", pa.string(), nullable=False),
        pa.field("error", pa.string()),
        pa.field("format", pa.string()),
        pa.field("mode", pa.string()),  # as Pillow names it
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("bytes", pa.int64()),
        pa.field("brightness", pa.float32()),  # mean grey level, 0 to 255
        pa.field("contrast", pa.float32()),  # standard deviation of grey levels
        pa.field("content_sha256", pa.string()),
        pa.field("crop_x", pa.int32()),
        pa.field("crop_y", pa.int32()),
        pa.field("crop_w", pa.int32()),
        pa.field("crop_h", pa.int32()),
        pa.field("crop_status", pa.string()),
        pa.field("crop_doubt", pa.float32()),  # 0 to 1
        pa.field("group", pa.int64(), nullable=False),  # copies, and what the data calls a group
        pa.field("copies", pa.int64(), nullable=False),  # images of its group of copies, itself included
        pa.field("copy_in_training", pa.string()),  # of test images: the kind of the closest copy in training
        pa.field("conflicting_label", pa.bool_(), nullable=False),  # a copy has another label
        pa.field("plane", pa.string()),
        pa.field("plane_probability", pa.float32()),
        pa.field("suspected_label", pa.string()),
        pa.field("label_margin", pa.float32()),  # probability of the label less that of the best other class
    ]
)
"""One row an image, in the order of the listing."""

GROUPS = pa.schema([(name, IMAGES.field(name).type) for name in ("uri", "label", "split", "group")])

SIZES_SHOWN = 6
EXAMPLES = 5  # per cause of an unreadable file
DOUBTFUL = 0.5  # of a crop
SURE = 0.6  # a plane with a lower probability counts as unsure


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What the other rooms found, N rows each in the order of the listing.

    Attributes:
        labelled: `dataset.table.SCHEMA`.
        outcomes: `images.batch.prepared_schema` without pixels.
        properties: `dataset.properties.PROPERTIES`, histogram and frame not needed.
        copies: positions and groups of the N rows.
        readable: int64 (M,), the rows that have a picture; what follows has M rows.
        planes: float (M, 3), probabilities of `VIEWS`.
        doubts: None where labels were not looked at; classes are the sorted names of all N rows.
    """

    labelled: pa.Table
    outcomes: pa.Table
    properties: pa.Table
    copies: Copies
    readable: np.ndarray
    planes: np.ndarray
    doubts: Doubts | None


def images_table(found: Found) -> pa.Table:
    """One row an image: IMAGES."""
    labelled, outcomes, rows = found.labelled, found.outcomes, len(found.labelled)
    labels = np.array(labelled["label"].to_pylist(), object)
    classes = np.array(sorted(set(labels.tolist())), object)
    split = np.array(labelled["split"].to_pylist(), object)
    planes = np.full(rows, None, object)
    sure: np.ndarray = np.full(rows, None, object)
    suspected, margin = np.full(rows, None, object), np.full(rows, None, object)
    if len(found.readable):
        planes[found.readable] = np.array(VIEWS, object)[found.planes.argmax(axis=1)]
        sure[found.readable] = found.planes.max(axis=1)
    if found.doubts is not None:
        doubted = found.doubts.suspected >= 0
        suspected[found.readable[doubted]] = classes[found.doubts.suspected[doubted]]
        margin[found.readable] = found.doubts.margin
    columns: dict[str, Any] = {
        **{name: labelled[name] for name in ("row_id", "uri", "label", "split")},
        **{name: found.properties[name] for name in ("format", "mode", "brightness", "contrast")},
        **{name: outcomes[name] for name in ("status", "error", "width", "height", "content_sha256", "crop_status")},
        **{f"crop_{side}": outcomes[f"crop_{side}"] for side in "xywh"},
        "bytes": labelled["size"],
        "crop_doubt": outcomes["doubt"],
        "group": join_groups(found.copies.groups, labelled["group"].to_pylist()),
        "copies": np.bincount(found.copies.groups)[found.copies.groups],
        "copy_in_training": closest_kinds(found.copies, split == "test", split == "train"),
        "conflicting_label": contradicting(found.copies.groups, labels.astype(str)),
        "plane": planes,
        "plane_probability": sure,
        "suspected_label": suspected,
        "label_margin": margin,
    }
    arrays = []
    for field in IMAGES:
        values = columns[field.name]
        arrays.append(
            values.cast(field.type) if isinstance(values, pa.ChunkedArray) else pa.array(values, field.type, from_pandas=False)
        )
    return pa.table(arrays, schema=IMAGES)


def groups_table(images: pa.Table) -> pa.Table:
    """GROUPS of every image, images of one group side by side."""
    return images.sort_by([("group", "ascending"), ("row_id", "ascending")]).select(GROUPS.names)


def describe_images(images: pa.Table, copies: Copies) -> dict[str, Any]:
    """The parts of the record that follow from the table and the pairs of copies."""
    columns = {name: np.array(images[name].to_pylist(), object) for name in images.column_names}
    classes = sorted(set(columns["label"].tolist()))
    ok = columns["status"] == "ok"
    return {
        "classes": [_class(columns, name, ok) for name in classes],
        "properties": _properties(columns, classes, ok),
        "unreadable": _unreadable(columns, ~ok),
        "copies": _copies(columns, copies),
        "crops": _crops(columns, classes, ok),
        "planes": _planes(columns, classes, ok),
    }


def _class(columns: Mapping[str, np.ndarray], name: str, ok: np.ndarray) -> dict[str, Any]:
    mine = columns["label"] == name
    return {
        "name": name,
        "images": int(mine.sum()),
        "train": int((mine & (columns["split"] == "train")).sum()),
        "test": int((mine & (columns["split"] == "test")).sum()),
        "not_said": int((mine & ~np.isin(columns["split"].astype(str), ("train", "test"))).sum()),
        "unreadable": int((mine & ~ok).sum()),
    }


def _properties(columns: Mapping[str, np.ndarray], classes: Sequence[str], ok: np.ndarray) -> dict[str, Any]:
    """Counts by class of sizes, modes and formats, the most frequent first, and quantiles of brightness and contrast; `alone` says
    how many images always naming the most frequent class of a size (mode, format) gets right, a share."""
    sizes = [
        f"{width} × {height}" if good else None
        for width, height, good in zip(columns["width"], columns["height"], ok, strict=True)
    ]
    found: dict[str, Any] = {"alone": {}}
    for name, values in (("size", np.array(sizes, object)), ("mode", columns["mode"]), ("format", columns["format"])):
        common = [value for value, _ in Counter(values[ok].tolist()).most_common(SIZES_SHOWN)]
        rows = {
            str(value): [int((ok & (columns["label"] == which) & (values == value)).sum()) for which in classes]
            for value in common
        }
        others = [int((ok & (columns["label"] == which) & ~np.isin(values.astype(str), list(rows))).sum()) for which in classes]
        found[name] = rows | ({"other": others} if any(others) else {})
        if ok.any():
            found["alone"][name] = sum(max(counts) for counts in found[name].values()) / int(ok.sum())
    for name in ("brightness", "contrast"):
        found[name] = [_quantiles(columns[name][ok & (columns["label"] == which)]) for which in classes]
    return found


def _quantiles(values: np.ndarray) -> dict[str, float | None]:
    names, shares = ("p5", "p25", "median", "p75", "p95"), (5, 25, 50, 75, 95)
    real = np.array([value for value in values if value is not None], float)
    return dict(zip(names, np.percentile(real, shares).tolist() if len(real) else [None] * 5, strict=True))


def _unreadable(columns: Mapping[str, np.ndarray], bad: np.ndarray) -> list[dict[str, Any]]:
    """Why files give no picture, the most frequent cause first."""
    found = Causes()
    for row in np.flatnonzero(bad).tolist():
        found.add(columns["status"][row], columns["error"][row], columns["uri"][row])
    return found.listed()


def _copies(columns: Mapping[str, np.ndarray], copies: Copies) -> dict[str, Any]:
    groups, labels, split = copies.groups, columns["label"], columns["split"]
    sizes = np.bincount(groups)
    test, train = split == "test", split == "train"
    copied = test & np.isin(groups, groups[train])
    conflicting = columns["conflicting_label"].astype(bool)
    kinds = Counter(columns["copy_in_training"][copied].tolist())
    clashing: dict[int, set[str]] = {}
    for row in np.flatnonzero(conflicting).tolist():
        clashing.setdefault(int(groups[row]), set()).add(labels[row])
    clashes = Counter(" / ".join(sorted(names)) for names in clashing.values())
    across = np.intersect1d(groups[test], groups[train])
    said = Counter(copies.pairs["kind"].to_pylist())
    return {
        "groups": len(sizes),
        "groups_of_several": int((sizes > 1).sum()),
        "images_with_a_copy": int((sizes[groups] > 1).sum()),
        "largest_group": int(sizes.max(initial=0)),
        "sizes": {str(size): count for size, count in sorted(Counter(sizes.tolist()).items())[:SIZES_SHOWN]},
        "links": {kind: said.get(kind, 0) for kind in KINDS},
        "test_images": int(test.sum()),
        "training_images": int(train.sum()),
        "test_images_with_copy_in_training": int(copied.sum()),
        "test_images_with_copy_in_training_by_kind": {kind: kinds.get(kind, 0) for kind in KINDS},
        "test_images_with_copy_in_training_by_class": {
            name: {"test_images": int((test & (labels == name)).sum()), "with_copy": int((copied & (labels == name)).sum())}
            for name in sorted(set(labels.tolist()))
        },
        "groups_across_splits": len(across),
        "groups_with_conflicting_labels": len(clashing),
        "images_with_conflicting_labels": int(conflicting.sum()),
        "test_images_with_conflicting_labels": int((conflicting & test).sum()),
        "conflicts": dict(clashes.most_common()),
    }


def _crops(columns: Mapping[str, np.ndarray], classes: Sequence[str], ok: np.ndarray) -> dict[str, Any]:
    status = [text.partition(":")[0] for text in columns["crop_status"][ok].tolist()]
    doubts = columns["crop_doubt"][ok].astype(float)
    return {
        "status": dict(Counter(status).most_common()),
        "reasons": dict(Counter(cause(text, "") for text in columns["crop_status"][ok].tolist()).most_common(8)),
        "doubtful": int((doubts >= DOUBTFUL).sum()),
        "doubtful_by_class": {
            name: int(
                (ok & (columns["label"] == name) & (np.where(ok, columns["crop_doubt"], 0).astype(float) >= DOUBTFUL)).sum()
            )
            for name in classes
        },
    }


def _planes(columns: Mapping[str, np.ndarray], classes: Sequence[str], ok: np.ndarray) -> dict[str, Any]:
    """Images of each class by plane, those that are unsure apart; and what the plane alone tells of the class."""
    unsure = np.array([share is None or share < SURE for share in columns["plane_probability"]], bool)
    names = (*VIEWS, "unsure")
    said = np.where(unsure, "unsure", columns["plane"])
    counts = np.array([[int((ok & (columns["label"] == name) & (said == plane)).sum()) for plane in names] for name in classes])
    total = int(counts.sum())
    return {
        "columns": list(names),
        "by_class": {name: counts[number].tolist() for number, name in enumerate(classes)},
        "by_plane": {plane: counts[:, number].tolist() for number, plane in enumerate(names)},
        "accuracy_from_plane_alone": float(counts.max(axis=0).sum() / total) if total else None,
        "chance": float(counts.sum(axis=1).max() / total) if total else None,
    }
