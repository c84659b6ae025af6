"""Features of a frozen backbone, computed once and kept by the images' content: the head then trains in seconds.

A frozen backbone gives the same features in every epoch, so training on them is the same mathematics as the slow way. A data set that grew
costs its new images, and a job that was killed loses one part.
"""

import uuid
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from torch import Tensor

from btc_ray.dataset.crops import Crops
from btc_ray.model.engines.folding import POOLED
from btc_ray.progress import say
from btc_ray.storage import Place
from btc_ray.training.augment import FLIPS
from btc_ray.training.features import backbone_features, backbone_id

KEPT_TOGETHER = 2048  # images whose features are written together: under four flips some five minutes of two cores


def frozen_features(
    crops: Crops, state: Mapping[str, Tensor], *, flips: bool, appearance: float = 0.0, cache: Place
) -> np.ndarray:
    """What the backbone's four stages make of every crop, pooled, what the head sees last: float32 (N, V, 960), V the four FLIPS, or 1
    without `flips`; with `appearance` as many again, of pictures that it changed. Needs a Ray that is joined.
    """
    backbone = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    variants = FLIPS if flips else FLIPS[:1]
    plain = _features(crops, backbone, variants, 0.0, cache)
    return np.concatenate([plain, _features(crops, backbone, variants, appearance, cache)], axis=1) if appearance else plain


def _features(
    crops: Crops, backbone: Mapping[str, Tensor], variants: tuple[tuple[int, ...], ...], appearance: float, cache: Place
) -> np.ndarray:
    name = f"stages-{crops.preprocess_id}-{backbone_id(backbone)}-{len(variants)}"
    folder = cache / (f"{name}-appearance-{appearance:g}" if appearance else name)
    of_crop = np.array(crops.rows["content_sha256"].to_pylist(), str)
    contents, first, where = np.unique(of_crop, return_index=True, return_inverse=True)  # files that are equal to the byte: once
    features = np.empty((len(contents), len(variants), POOLED), np.float32)
    there = _read_kept(folder, contents, features)
    if there.any():
        say(f"Features of {there[where].sum():,} images are cached in {folder}.")
    missing = np.sort(first[~there])
    for start in range(0, len(missing), KEPT_TOGETHER):
        part = missing[start : start + KEPT_TOGETHER]
        before = f", {start:,} of {len(missing):,} images before" if start else ""
        row_ids = crops.rows["row_id"].to_numpy()[part]
        found = backbone_features(crops, backbone, variants=variants, appearance=appearance, row_ids=row_ids, words=before)
        features[where[part]] = found
        _keep(folder, of_crop[part], found)
    return features[where]


def _keep(folder: Place, contents: np.ndarray, features: np.ndarray) -> None:
    packed = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(features[0].nbytes), len(features), [None, pa.py_buffer(np.ascontiguousarray(features))]
    )
    table = pa.table({"content_sha256": pa.array(contents.tolist(), pa.string()), "features": packed})
    (folder / f"{uuid.uuid4().hex}.parquet").write_table(table)


def _read_kept(folder: Place, contents: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Write what is kept of `contents`, str (N,), sorted, each once, into `features`, float32 (N, V, 960). Returns which, bool (N,)."""
    there = np.zeros(len(contents), bool)
    for file in folder.files(".parquet") if len(contents) else ():
        table = file.read_table()
        found = np.array(table["content_sha256"].to_pylist(), str)
        places = np.searchsorted(contents, found).clip(max=len(contents) - 1)
        wanted = np.flatnonzero(contents[places] == found)
        values = b"".join(table["features"].take(pa.array(wanted)).to_pylist())
        features[places[wanted]] = np.frombuffer(values, np.float32).reshape(-1, *features.shape[1:])
        there[places[wanted]] = True
    return there
