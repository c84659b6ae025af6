"""The model bundle: a folder with weights and every fact needed to use them, read and written without executing code.

Reading `bundle.json` needs neither torch nor Ray, so `btc-ray info` answers at once.
"""

import hashlib
import json
import posixpath
from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np

from btc_ray.images.prepare import Preprocess
from btc_ray.model.bundle.card import model_card
from btc_ray.model.bundle.description import FORMAT, Bundle, BundleError
from btc_ray.model.bundle.provenance import git_commit, library_versions
from btc_ray.model.int8.form import INT8, Int8Network, int8_id
from btc_ray.model.reference import Reference, reference_id

if TYPE_CHECKING:
    from torch import Tensor

REFERENCE = "reference.safetensors"
NO_INT8 = "has no int8 form: `btc-ray retrain` makes one on x86 CPUs with VNNI where OpenVINO is installed. Give --precision bf16 or fp32."


def read_bundle(uri: str, storage_options: Mapping[str, str] | None = None) -> Bundle:
    """Read and check `bundle.json`. Raises BundleError."""
    name = posixpath.join(uri, "bundle.json")
    try:
        content = json.loads(_read(name, storage_options))
    except FileNotFoundError as error:
        raise BundleError(f"{uri} is not a model bundle: it has no bundle.json. Make one with `btc-ray retrain`.") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleError(f"{name} is damaged: it is not JSON ({error}).") from error
    known = {item.name for item in fields(Bundle)}
    if not isinstance(content, dict) or not {"classes", "model_id", "preprocess", "preprocess_id"} <= content.keys():
        raise BundleError(f"{name} is not a bundle's description: classes, model_id, preprocess or preprocess_id is missing.")
    if content.get("format", FORMAT) > FORMAT:
        raise BundleError(f"{name} was written by a newer btc-ray (format {content['format']}). Update btc-ray.")
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in content.items() if key in known
    }
    bundle = Bundle(**values)
    if bundle.architecture != "resnet18":
        raise BundleError(f"{name}: architecture {bundle.architecture!r} is not known here; resnet18 is.")
    try:
        actual = Preprocess.from_dict(bundle.preprocess).preprocess_id
    except ValueError as error:
        raise BundleError(f"{name}: {error}") from error
    if actual != bundle.preprocess_id:
        raise BundleError(
            f"{uri} was trained on images prepared otherwise: it asks for preprocess_id {bundle.preprocess_id}, this version of "
            f"btc-ray makes {actual}. Score with the version that trained it, or train again."
        )
    return bundle


def read_weights(uri: str, bundle: Bundle, storage_options: Mapping[str, str] | None = None) -> "dict[str, Tensor]":
    """The tensors of `model.safetensors`, checked against `model_id`. Raises BundleError."""
    import torch

    return {name: torch.from_numpy(array) for name, array in read_arrays(uri, bundle, storage_options).items()}


def read_arrays(uri: str, bundle: Bundle, storage_options: Mapping[str, str] | None = None) -> dict[str, np.ndarray]:
    """The same as numpy arrays, without torch. Raises BundleError."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    name = posixpath.join(uri, "model.safetensors")
    try:
        data = _read(name, storage_options)
    except FileNotFoundError as error:
        raise BundleError(f"{uri} has no model.safetensors: copy the whole bundle folder.") from error
    if weights_id(data) != bundle.model_id:
        raise BundleError(f"{name} is damaged or belongs to another bundle: its sha256 does not begin with {bundle.model_id}.")
    try:
        return load(data)
    except SafetensorError as error:
        raise BundleError(f"{name} is not a safetensors file ({error}).") from error


def read_reference(uri: str, bundle: Bundle, storage_options: Mapping[str, str] | None = None) -> Reference | None:
    """What the model learned from, or None where the bundle has no thresholds to compare it with. Raises BundleError."""
    if not bundle.decision:
        return None
    from safetensors import SafetensorError

    name = posixpath.join(uri, REFERENCE)
    try:
        data = _read(name, storage_options)
    except FileNotFoundError as error:
        raise BundleError(f"{uri} has no {REFERENCE}: copy the whole bundle folder.") from error
    if reference_id(data) != bundle.decision.get("reference_id"):
        raise BundleError(f"{name} is damaged or belongs to another bundle: its sha256 is not the one in bundle.json.")
    try:
        return Reference.from_bytes(data)
    except (SafetensorError, KeyError) as error:
        raise BundleError(f"{name} holds no means and precision ({error}).") from error


def read_int8(uri: str, bundle: Bundle, storage_options: Mapping[str, str] | None = None) -> Int8Network:
    """The network in 8 bits. Raises BundleError where the bundle has none."""
    from safetensors import SafetensorError

    if not bundle.int8:
        raise BundleError(f"{uri} {NO_INT8}")
    name = posixpath.join(uri, INT8)
    try:
        data = _read(name, storage_options)
    except FileNotFoundError as error:
        raise BundleError(f"{uri} has no {INT8}: copy the whole bundle folder, or give --precision bf16 or fp32.") from error
    if int8_id(data) != bundle.int8.get("int8_id"):
        raise BundleError(
            f"{name} is damaged or belongs to another bundle: its sha256 is not the one in bundle.json. Copy it again, or give "
            "--precision bf16 or fp32."
        )
    try:
        return Int8Network.from_bytes(data)
    except (SafetensorError, KeyError) as error:
        raise BundleError(f"{name} holds no network in 8 bits ({error}).") from error


def write_bundle(
    uri: str,
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
    storage_options: Mapping[str, str] | None = None,
) -> Bundle:
    """Write weights, description, card and other `parts` (name → content); `bundle.json` comes last, so that a bundle which has one
    is whole. `decision`: thresholds, with the `reference` that their distances are measured from. `int8`: the network in
    8 bits, and how it agreed."""
    from safetensors.torch import save

    stored = reference.to_bytes() if reference is not None and decision else None
    eight_bits = int8[0].to_bytes() if int8 is not None else None
    weights = save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()})
    bundle = Bundle(
        classes=classes,
        model_id=weights_id(weights),
        preprocess=preprocess.to_dict(),
        preprocess_id=preprocess.preprocess_id,
        temperature=temperature,
        test_time_flips=test_time_flips,
        training=dict(training),
        data=dict(data),
        decision=dict(decision or {}) | ({"reference_id": reference_id(stored)} if stored else {}),
        int8=dict(int8[1]) | {"int8_id": int8_id(eight_bits)} if int8 is not None and eight_bits else {},
        metrics=dict(metrics),
        versions=library_versions(),
        git_commit=git_commit(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    _remove(posixpath.join(uri, "bundle.json"), storage_options)  # of an older bundle: it would not be whole from here on
    _write(posixpath.join(uri, "model.safetensors"), weights, storage_options)
    own = [(name, content) for name, content in ((REFERENCE, stored), (INT8, eight_bits)) if content]
    for name, content in [*(parts or {}).items(), *own]:
        _write(posixpath.join(uri, name), content, storage_options)
    _write(posixpath.join(uri, "model_card.md"), model_card(bundle).encode(), storage_options)
    _write(posixpath.join(uri, "bundle.json"), (json.dumps(asdict(bundle), indent=2) + "\n").encode(), storage_options)
    return bundle


def weights_id(data: bytes) -> str:
    """The `model_id` of the bytes of a `model.safetensors`."""
    return hashlib.sha256(data).hexdigest()[:16]


def _read(uri: str, storage_options: Mapping[str, str] | None) -> bytes:
    with fsspec.open(uri, "rb", **fsspec_arguments(uri, storage_options)) as file:
        return file.read()


def _write(uri: str, data: bytes, storage_options: Mapping[str, str] | None) -> None:
    with fsspec.open(uri, "wb", auto_mkdir=True, **fsspec_arguments(uri, storage_options)) as file:
        file.write(data)


def _remove(uri: str, storage_options: Mapping[str, str] | None) -> None:
    filesystem, path = fsspec.core.url_to_fs(uri, **fsspec_arguments(uri, storage_options))
    if filesystem.exists(path):
        filesystem.rm(path)


def fsspec_arguments(uri: str, storage_options: Mapping[str, str] | None) -> dict[str, Any]:
    """Storage options as fsspec takes them: `true`, `false` and JSON objects as what they say; none for a local path."""
    if "://" not in uri:
        return {}
    words = {"true": True, "false": False}
    options = (storage_options or {}).items()
    return {key: json.loads(value) if value.startswith("{") else words.get(value.lower(), value) for key, value in options}
