"""A bundle put into its folder in one step: whoever opens it meanwhile, on a disk or in an object store, gets the one before or the new
one, whole, also where a worker opens its part of it only later.

The step is `bundle.json`, a single file. Where it takes another's place, the files of both stand in `versions/` before, each under what
its description comes to; the folder's own files follow afterwards.
"""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from btc_ray.images.prepare import Preprocess
from btc_ray.model.bundle.card import model_card
from btc_ray.model.bundle.check import read_description
from btc_ray.model.bundle.columns import column_names
from btc_ray.model.bundle.description import Bundle, BundleError, UnreachableBundleError, version_id
from btc_ray.model.bundle.files import DESCRIPTION, REFERENCE, SIGNATURE, VERSIONS, WEIGHTS, read_content, read_file, weights_id
from btc_ray.model.bundle.provenance import git_commit, library_versions
from btc_ray.model.bundle.signature import signature_of
from btc_ray.model.int8.form import INT8, Int8Network, int8_id
from btc_ray.model.reference import Reference, reference_id
from btc_ray.storage import Place

if TYPE_CHECKING:
    from torch import Tensor

CARD = "model_card.md"
PARTS = (WEIGHTS, REFERENCE, INT8, SIGNATURE, CARD, "metrics.parquet", "split.parquet", "out_of_fold.parquet")
"""What belongs to one description, and to no other."""


def write_bundle(
    place: Place,
    *,
    state: "Mapping[str, Tensor]",
    classes: tuple[str, ...],
    preprocess: Preprocess,
    training: Mapping[str, Any],
    data: Mapping[str, Any],
    metrics: Mapping[str, Any],
    temperature: float = 1.0,
    test_time_flips: bool = False,
    decision: Mapping[str, Any] | None = None,
    reference: Reference | None = None,
    int8: tuple[Int8Network, Mapping[str, Any]] | None = None,
    parts: Mapping[str, bytes] | None = None,
    sign: str | None = None,
) -> Bundle:
    """Write weights, description, card and other `parts` (name → content), in place of a bundle that stands there. `decision`:
    thresholds, with the `reference` that their distances are measured from. `int8`: the network in 8 bits, and how it agreed. `sign`:
    the file of a private key."""
    from safetensors.torch import save

    stored = reference.to_bytes() if reference is not None and decision else None
    eight_bits = int8[0].to_bytes() if int8 is not None else None
    weights = save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()})
    bundle = Bundle(
        classes=classes,
        columns=column_names(classes),
        model_id=weights_id(weights),
        preprocess=preprocess.to_dict(),
        preprocess_id=preprocess.preprocess_id,
        temperature=temperature,
        test_time_flips=test_time_flips,
        training=dict(training),
        data=dict(data),
        decision=dict(decision or {}) | ({"reference_id": reference_id(stored)} if stored else {}),
        int8=dict(int8[1]) | {"int8_id": int8_id(eight_bits)} if int8 is not None and eight_bits else {},
        metrics=_without_nan(metrics),
        versions=library_versions(),
        git_commit=git_commit(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    files = {WEIGHTS: weights, **(parts or {}), REFERENCE: stored, INT8: eight_bits, CARD: model_card(bundle).encode()}
    publish(place, bundle, {name: content for name, content in files.items() if content}, sign=sign)
    return bundle


def publish(place: Place, bundle: Bundle, files: Mapping[str, bytes], *, sign: str | None = None) -> None:
    """Put a description and the `files` that it speaks of (name → content) into the folder; what a bundle before had and this one has
    not goes. A kill at any moment leaves the one before or this one, or in a new folder no bundle."""
    described = (json.dumps(bundle.to_dict(), indent=2) + "\n").encode()
    contents = {**files, DESCRIPTION: described}
    if sign is not None:
        contents[SIGNATURE] = signature_of(contents, sign)
    versions, earlier = place / VERSIONS, _listed(place / VERSIONS)
    before = _standing(place)
    if before is None:
        (place / DESCRIPTION).remove()  # one that nobody can read
    else:
        kept, this = version_id(before), version_id(bundle)
        earlier -= {kept, this}
        if not (versions / kept / DESCRIPTION).exists():
            _put(versions / kept, _contents(place))
        _put(versions / this, contents)
        (place / DESCRIPTION).write(described)
    _put(place, contents)
    for name in earlier:
        (versions / name).remove()


def _put(folder: Place, contents: Mapping[str, bytes]) -> None:
    """The files, the description last; parts of another bundle that are not among them are removed."""
    for name in PARTS:
        if name not in contents:
            (folder / name).remove()
    for name in sorted(contents, key=DESCRIPTION.__eq__):
        (folder / name).write(contents[name])


def _contents(place: Place) -> dict[str, bytes]:
    found = {}
    for name in (*PARTS, DESCRIPTION):
        try:
            found[name] = read_file(place / name)
        except FileNotFoundError:
            continue
    return found


def _standing(place: Place) -> Bundle | None:
    """The bundle that readers see now; None where there is none that they could read. Raises UnreachableBundleError."""
    try:
        return read_description(read_content(place), place / DESCRIPTION)
    except UnreachableBundleError:
        raise
    except BundleError:
        return None


def _listed(versions: Place) -> set[str]:
    """The versions that stand there whole or in part."""
    filesystem, path = versions.filesystem()
    if not filesystem.exists(path):
        return set()
    filesystem.invalidate_cache(path)
    return {str(entry).rstrip("/").rpartition("/")[2] for entry in filesystem.ls(path, detail=False)}


def _without_nan(values: Any) -> Any:
    """Nested values with None for what is no finite number, which JSON does not have: the accuracy of no images."""
    if isinstance(values, Mapping):
        return {key: _without_nan(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_without_nan(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
