"""What an audit looks at: files described, cropped, grouped into copies, seen by a frozen backbone, all by Ray Data and cached."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from btc_ray import settings
from btc_ray.dataset.copies import Copies, join_groups
from btc_ray.dataset.table import SCHEMA, class_names, several_names
from btc_ray.images.prepare import Preprocess
from btc_ray.model.bundle import Bundle, read_split
from btc_ray.storage import Place

if TYPE_CHECKING:
    from torch import Tensor

    from btc_ray.dataset.crops import Crops
    from btc_ray.dataset.properties import Properties


def read_backbone(chosen: settings.Audit) -> "dict[str, Tensor] | None":
    """The frozen backbone's state, read first so that what is missing is said at once; None for --weights none."""
    if chosen.weights == "none":
        return None
    from btc_ray.model.weights import initial_network

    return dict(initial_network(chosen.weights, 2, seed=0, options=chosen.storage()).state_dict())


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """What Ray made: N rows of the listing, M images that have a picture.

    Attributes:
        table: `dataset.table.SCHEMA`, N rows; `properties`, `outcomes` and `copies` are of the same rows.
        crops: of the M images; `readable` int64 (M,) are their rows, `labels` int64 (M,) their positions in `classes`.
        split: object (N,), train (validation too), test or None; `groups` int64 (N,), copies joined with what the data calls groups.
        features: float32 (M, 512) of the frozen backbone, or None.
        asked: the crops that the bundle is asked about, or None, and in words what they are.
    """

    chosen: settings.Audit
    bundle: Bundle | None
    table: pa.Table
    classes: tuple[str, ...]
    properties: "Properties"
    outcomes: pa.Table
    copies: Copies
    crops: "Crops"
    readable: np.ndarray
    labels: np.ndarray
    split: np.ndarray
    groups: np.ndarray
    features: np.ndarray | None
    asked: "Crops | None"
    asked_of: str


def gather(chosen: settings.Audit, table: pa.Table, backbone: "dict[str, Tensor] | None", bundle: Bundle | None) -> Inputs:
    """Everything that reads images or asks the backbone. Needs a Ray that is joined."""
    from btc_ray.dataset.crops import labelled_crops, outcomes
    from btc_ray.dataset.labelled import COMPARED, labelled_copies
    from btc_ray.dataset.properties import image_properties

    cache = Place(chosen.cache_uri(), chosen.storage()).absolute()
    classes = tuple(sorted({*class_names(table), *several_names(table)}))
    crops = labelled_crops(table, preprocess=COMPARED, cache=cache, described=True)
    copies = labelled_copies(table, crops=crops, cache=cache)
    features: np.ndarray | None = None
    if backbone is not None and len(crops.rows) and len(classes) > 1:
        from btc_ray.model.engines.folding import FEATURES
        from btc_ray.training.kept_features import frozen_features

        features = frozen_features(crops, backbone, flips=False, cache=cache)[:, 0, -FEATURES:]
    asked, what = None, ""
    if bundle is not None:
        rows, what = _sample(chosen, table, bundle, crops)
        if len(rows):
            preprocess = Preprocess.from_dict(bundle.preprocess)
            asked = labelled_crops(table.take(rows), preprocess=preprocess, cache=cache)
    split = np.array(table["split"].to_pylist(), object)
    split[split == "validation"] = "train"  # a model is chosen by them: they are seen
    table = table.set_column(table.schema.get_field_index("split"), SCHEMA.field("split"), pa.array(split, pa.string()))
    return Inputs(
        chosen=chosen,
        bundle=bundle,
        table=table,
        classes=classes,
        properties=image_properties(crops),
        outcomes=outcomes(crops),
        copies=copies,
        crops=crops,
        readable=np.searchsorted(table["row_id"].to_numpy(), crops.rows["row_id"].to_numpy()),
        labels=np.searchsorted(classes, crops.rows["label"].to_pylist()),
        split=split,
        groups=join_groups(copies.groups, table["group"].to_pylist()),
        features=features,
        asked=asked,
        asked_of=what,
    )


def _sample(chosen: settings.Audit, table: pa.Table, bundle: Bundle, crops: "Crops") -> tuple[np.ndarray, str]:
    """Rows of the images that the bundle is asked about, rising, and what they are: unseen ones, as far as that is recorded."""
    from btc_ray.reports.audit.masking import MOST

    known = np.isin(np.array(crops.rows["label"].to_pylist()), bundle.classes)
    record = read_split(Place(chosen.model or "", chosen.storage()), bundle)
    wanted, what = known & (np.array(crops.rows["split"].to_pylist(), object) == "test"), "published test images"
    if record is not None:
        held = {
            sha
            for sha, side in zip(record["content_sha256"].to_pylist(), record["split"].to_pylist(), strict=True)
            if side == "test"
        }
        own = known & np.array([sha in held for sha in crops.rows["content_sha256"].to_pylist()], bool)
        if own.any():
            wanted, what = own, "images that the bundle's record says it was not trained on"
    if not wanted.any():
        wanted, what = known, "images of all, for the data names no test images and the bundle knows none of them as held out"
    rows = np.flatnonzero(wanted)
    if len(rows) > MOST:
        rows = np.sort(np.random.default_rng(chosen.seed).choice(rows, MOST, replace=False))
        what = f"{MOST:,} of {wanted.sum():,} {what}, drawn at random"
    return np.searchsorted(table["row_id"].to_numpy(), crops.rows["row_id"].to_numpy()[rows]), what
