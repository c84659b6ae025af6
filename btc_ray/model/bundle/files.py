"""The model bundle: a folder with weights and every fact needed to use them, read without executing code.

What a description speaks of is found where another bundle took the folder since: `publish` keeps it in `versions`.

Reading `bundle.json` needs neither torch nor Ray, so `btc-ray info` answers at once.
"""

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from btc_ray.images.prepare import Preprocess
from btc_ray.model.bundle.check import check_finite, check_weights, read_description
from btc_ray.model.bundle.description import FORMAT, Bundle, BundleError, UnreachableBundleError, version_id
from btc_ray.model.engines.folding import FEATURES, STAGES
from btc_ray.model.int8.form import INT8, Int8Network, int8_id
from btc_ray.model.reference import Reference, reference_id
from btc_ray.storage import Place
from btc_ray.storage.retries import explain

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

DESCRIPTION = "bundle.json"
WEIGHTS = "model.safetensors"
REFERENCE = "reference.safetensors"
SIGNATURE = "model.sig"
SPLIT = "split.parquet"
VERSIONS = "versions"  # of a folder whose bundle was replaced: the files of each, by `version_id`
NO_INT8 = "has no int8 form: `btc-ray retrain` makes one on x86 CPUs with VNNI where OpenVINO is installed. Give --precision bf16 or fp32."


def read_bundle(place: Place) -> Bundle:
    """Read and check `bundle.json`. Raises BundleError."""
    name = place / DESCRIPTION
    bundle = read_description(read_content(place), name)
    if bundle.architecture != "resnet18":
        raise BundleError(f"{name}: architecture {bundle.architecture!r} is not known here; resnet18 is.")
    try:
        actual = Preprocess.from_dict(bundle.preprocess).preprocess_id
    except ValueError as error:
        raise BundleError(f"{name}: {error}") from error
    if actual != bundle.preprocess_id:
        raise BundleError(
            f"{place} was trained on images prepared otherwise: it asks for preprocess_id {bundle.preprocess_id}, this version of "
            f"btc-ray makes {actual}. Score with the version that trained it, or train again."
        )
    return bundle


def read_content(place: Place) -> dict[str, Any]:
    """`bundle.json` as it stands, with the fields that every one has. Raises BundleError."""
    name = place / DESCRIPTION
    try:
        content = msgspec.json.decode(read_file(name))
    except FileNotFoundError as error:
        raise BundleError(f"{place} is not a model bundle: it has no bundle.json. Make one with `btc-ray retrain`.") from error
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        raise BundleError(f"{name} is damaged: it is not JSON ({error}).") from error
    if not isinstance(content, dict) or not {"classes", "model_id", "preprocess", "preprocess_id"} <= content.keys():
        raise BundleError(f"{name} is not a bundle's description: classes, model_id, preprocess or preprocess_id is missing.")
    written = content.get("format", FORMAT)
    if isinstance(written, int) and written > FORMAT:
        raise BundleError(f"{name} was written by a newer btc-ray (format {written}). Update btc-ray.")
    return content


def read_weights(place: Place, bundle: Bundle) -> "dict[str, Tensor]":
    """The tensors of `model.safetensors`, checked against `model_id`. Raises BundleError."""
    import torch

    return {name: torch.from_numpy(array) for name, array in read_arrays(place, bundle).items()}


def read_arrays(place: Place, bundle: Bundle) -> dict[str, np.ndarray]:
    """The same as numpy arrays, without torch. Raises BundleError."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    name = place / WEIGHTS
    try:
        data = _part(place, bundle, WEIGHTS, lambda data: weights_id(data) == bundle.model_id)
    except FileNotFoundError as error:
        raise BundleError(f"{place} has no model.safetensors: copy the whole bundle folder.") from error
    if data is None:
        raise BundleError(f"{name} is damaged or belongs to another bundle: its sha256 does not begin with {bundle.model_id}.")
    try:
        arrays = load(data)
    except SafetensorError as error:
        raise BundleError(f"{name} is not a safetensors file ({error}).") from error
    check_weights(arrays, bundle, name)
    return arrays


def read_reference(place: Place, bundle: Bundle) -> Reference | None:
    """What the model learned from, or None where the bundle has no thresholds to compare it with. Raises BundleError."""
    if not bundle.decision:
        return None
    from safetensors import SafetensorError

    name = place / REFERENCE
    try:
        data = _part(place, bundle, REFERENCE, lambda data: reference_id(data) == bundle.decision.get("reference_id"))
    except FileNotFoundError as error:
        raise BundleError(f"{place} has no {REFERENCE}: copy the whole bundle folder.") from error
    if data is None:
        raise BundleError(f"{name} is damaged or belongs to another bundle: its sha256 is not the one in bundle.json.")
    try:
        reference = Reference.from_bytes(data)
    except (SafetensorError, KeyError) as error:
        raise BundleError(f"{name} holds no means and precision ({error}).") from error
    widths = STAGES if reference.of_stages else (FEATURES,)
    shapes = [(one.means.shape, one.precision.shape) for one in reference.gaussians]
    if shapes != [((len(bundle.classes), width), (width, width)) for width in widths] or reference.typical.shape != (
        len(widths),
    ):
        raise BundleError(
            f"{name} holds means and precision of the shapes {shapes}, which are not those of {len(bundle.classes)} classes."
        )
    for one in reference.gaussians:
        check_finite({"means": one.means, "precision": one.precision}, name)
    check_finite({"typical": reference.typical}, name)
    if (reference.typical <= 0).any():
        raise BundleError(f"{name} holds typical distances that are not above 0.")
    return reference


def read_int8(place: Place, bundle: Bundle) -> Int8Network:
    """The network in 8 bits. Raises BundleError where the bundle has none."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if not bundle.int8:
        raise BundleError(f"{place} {NO_INT8}")
    name = place / INT8
    try:
        data = _part(place, bundle, INT8, lambda data: int8_id(data) == bundle.int8.get("int8_id"))
    except FileNotFoundError as error:
        raise BundleError(f"{place} has no {INT8}: copy the whole bundle folder, or give --precision bf16 or fp32.") from error
    if data is None:
        raise BundleError(
            f"{name} is damaged or belongs to another bundle: its sha256 is not the one in bundle.json. Copy it again, or give "
            "--precision bf16 or fp32."
        )
    try:
        arrays = load(data)
        check_finite(arrays, name)
        return Int8Network.from_arrays(arrays)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise BundleError(f"{name} holds no network in 8 bits ({error}).") from error


def read_split(place: Place, bundle: Bundle) -> "pa.Table | None":
    """`split.parquet`, which images it learned from; None where it has none. Raises BundleError and pyarrow.ArrowInvalid."""
    split = None
    # The folder's own first: what replaces it stands in `versions` before.
    for folder in (place, place / VERSIONS / version_id(bundle)):
        if folder is place or (folder / DESCRIPTION).exists():
            split = (folder / SPLIT).read_table() if (folder / SPLIT).exists() else None
    return split


def check_bundle(place: Place, bundle: Bundle) -> None:
    """Open everything that `score` would read of a bundle, without computing with it. Raises BundleError."""
    read_arrays(place, bundle)
    read_reference(place, bundle)
    if bundle.int8:
        read_int8(place, bundle)


def _part(place: Place, bundle: Bundle, name: str, belongs: Callable[[bytes], bool]) -> bytes | None:
    """A file that the description speaks of, from the folder or, where another bundle took it, from `versions`; None where what stands
    there is not that file. Raises FileNotFoundError, and BundleError where the store gives no answer."""
    there = True
    try:
        if belongs(data := read_file(place / name)):
            return data
    except FileNotFoundError:
        there = False
    try:
        if belongs(data := read_file(place / VERSIONS / version_id(bundle) / name)):
            return data
    except (FileNotFoundError, UnreachableBundleError):  # a web server forbids what it does not have
        if not there:
            raise
    return None


def weights_id(data: bytes) -> str:
    """The `model_id` of the bytes of a `model.safetensors`."""
    return hashlib.sha256(data).hexdigest()[:16]


def read_file(file: Place) -> bytes:
    """A file of a bundle. Raises FileNotFoundError where there is none, and BundleError where the store gives no answer."""
    try:
        return file.read()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnreachableBundleError(f"{file} cannot be read: {explain(error)}.") from error
