"""Whether what a bundle says and holds can be used: looked at whenever one is opened, before an image is.

A bundle comes from elsewhere, and one wrong number in it (a layer that is not finite, a temperature of 0, a class of another shape)
would score a whole archive wrong without a word.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
import numpy as np

from btc_ray.model.bundle.description import Bundle, BundleError
from btc_ray.model.engines.folding import FEATURES
from btc_ray.storage import Place
from btc_ray.studies.rule import SeriesRule

MOST_CLASSES = 1_000
MOST_LETTERS = 200  # of a class's name
MOST_SIZE = 1_024  # px: 21 times the work of 224; a batch of 256 is 3 GB
SMALLEST, LARGEST = 1e-4, 1e4  # of temperature and standard deviation

_CHANNELS = (64, 128, 256, 512)


_NotNegative = Annotated[float, msgspec.Meta(ge=0)]
_Count = Annotated[int, msgspec.Meta(ge=0)]


@dataclass(frozen=True, kw_only=True)
class _Validation:
    images: _Count
    accepted: _Count
    wrong_among_accepted: _Count
    wrong: _Count


@dataclass(frozen=True, kw_only=True)
class _Guarantee:
    """Why a confidence is one that may be accepted from, or why there is none."""

    holds: bool
    target_risk: _NotNegative
    level: _NotNegative
    upper_bound: _NotNegative
    accepted: _Count
    wrong: _Count
    units: _Count
    unit: str
    answers: str
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Decision:
    """What has to stand in `decision`, if anything does; what bundles of older versions do not have may be absent."""

    accept_distance: _NotNegative
    reject_distance: _NotNegative
    accept_confidence: _NotNegative
    reference_id: str
    validation: _Validation
    accept_surround: _NotNegative = math.inf
    target_risk: _NotNegative = 0.0
    guarantee: _Guarantee | None = None
    risk_coverage: list[dict[str, float]] = field(default_factory=list)
    confidence: list[_NotNegative] = field(default_factory=list)
    distance_deciles: list[float] = field(default_factory=list)
    series_rule: SeriesRule | None = None


@dataclass(frozen=True, kw_only=True)
class _Int8:
    int8_id: str
    passed: bool
    images: _Count
    labels_agree: float
    largest_difference: float


@dataclass(frozen=True, kw_only=True)
class _Metrics:
    """Of one split; null where it had no images."""

    images: _Count
    accuracy: float | None = None
    loss: float | None = None


def read_description(content: Mapping[str, Any], name: Place) -> Bundle:
    """The record of a parsed `bundle.json`. Raises BundleError for a value of another type, out of range, or not finite."""
    known = set(Bundle.__dataclass_fields__) - {"more"}
    values = {key: value for key, value in content.items() if key in known}
    values["more"] = {key: value for key, value in content.items() if key not in known}
    try:
        bundle = msgspec.convert(values, Bundle)
        for part, kind in (("decision", _Decision), ("int8", _Int8)):
            if getattr(bundle, part):
                _convert(getattr(bundle, part), kind, part)
        for split, metrics in bundle.metrics.items():
            _convert(metrics, _Metrics, f"metrics.{split}")
    except msgspec.ValidationError as error:
        raise BundleError(f"{name} is damaged: {error}. Copy the bundle again, or train it again.") from error
    if wrong := next(_faults(bundle), None):
        raise BundleError(f"{name} is damaged: {wrong}. Copy the bundle again, or train it again.")
    return bundle


def check_weights(arrays: Mapping[str, np.ndarray], bundle: Bundle, name: Place) -> None:
    """That the tensors are those of the architecture with a row of the head for each class, and finite. Raises BundleError."""
    expected = resnet18_shapes(len(bundle.classes))
    if odd := sorted(set(expected) ^ set(arrays)):
        what = "lacks" if odd[0] in expected else "has, as no ResNet18 does,"
        raise BundleError(f"{name} {what} {odd[0]!r}: these are not the weights of a {bundle.architecture}.")
    for key, shape in expected.items():
        if arrays[key].shape != shape:
            raise BundleError(
                f"{name}: {key} has the shape {arrays[key].shape}, and a {bundle.architecture} of {len(bundle.classes)} classes {shape}."
            )
    check_finite(arrays, name)


def check_finite(arrays: Mapping[str, np.ndarray], name: Place) -> None:
    """Raises BundleError where an array holds what is no finite number."""
    for key, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BundleError(
                f"{name}: {key} holds values that are not finite (NaN or infinite): the training that made it diverged."
            )


def resnet18_shapes(classes: int) -> dict[str, tuple[int, ...]]:
    """The tensors of torchvision's ResNet18 and their shapes, without torch. Source: He et al., Deep Residual Learning, CVPR 2016."""
    found: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7), **_batchnorm("bn1", 64)}
    before = 64
    for number, channels in enumerate(_CHANNELS, start=1):
        for block in range(2):
            name, entering = f"layer{number}.{block}", before if block == 0 else channels
            found[f"{name}.conv1.weight"] = (channels, entering, 3, 3)
            found |= _batchnorm(f"{name}.bn1", channels)
            found[f"{name}.conv2.weight"] = (channels, channels, 3, 3)
            found |= _batchnorm(f"{name}.bn2", channels)
            if entering != channels:
                found[f"{name}.downsample.0.weight"] = (channels, entering, 1, 1)
                found |= _batchnorm(f"{name}.downsample.1", channels)
        before = channels
    return found | {"fc.weight": (classes, FEATURES), "fc.bias": (classes,)}


def _batchnorm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    values = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (channels,))
    return {f"{name}.{key}": shape for key, shape in values.items()} | {f"{name}.num_batches_tracked": ()}


def _convert(values: Any, kind: type[Any], part: str) -> None:
    try:
        msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise msgspec.ValidationError(f"{part}: {error}") from error


def _faults(bundle: Bundle) -> Iterator[str]:
    """What is wrong with the values, in words."""
    yield from _faults_of_classes(bundle.classes)
    if bundle.columns and (len(bundle.columns) != len(bundle.classes) or len(set(bundle.columns)) != len(bundle.columns)):
        yield "there is not one column for each class"
    if place := not_finite(
        {
            name: getattr(bundle, name)
            for name in ("mean", "std", "temperature", "preprocess", "decision", "int8", "metrics", "training")
        }
    ):
        yield f"{place} is not a finite number"
    if not SMALLEST <= bundle.temperature <= LARGEST:
        yield f"the temperature {bundle.temperature:g} is not between {SMALLEST:g} and {LARGEST:g}"
    if not all(SMALLEST <= value <= LARGEST for value in bundle.std):
        yield f"std {bundle.std} is not between {SMALLEST:g} and {LARGEST:g}"
    size = bundle.preprocess.get("size", 1)
    if isinstance(size, int) and size > MOST_SIZE:
        yield f"size {size:,} is more than {MOST_SIZE:,} px, the most that a network is run at here"
    yield from _faults_of_decision(bundle.decision)


def _faults_of_classes(classes: tuple[str, ...]) -> Iterator[str]:
    if not 2 <= len(classes) <= MOST_CLASSES:
        yield f"there are {len(classes):,} classes, and there can be 2 to {MOST_CLASSES:,}"
    if len(set(classes)) != len(classes):
        yield "a class is named twice"
    for name in classes:
        if not name.strip() or len(name) > MOST_LETTERS or not name.isprintable():
            yield f"{name[:40]!r} is no name of a class"


def _faults_of_decision(decision: Mapping[str, Any]) -> Iterator[str]:
    if not decision:
        return
    if decision["accept_distance"] > decision["reject_distance"]:
        yield "decision.accept_distance is larger than decision.reject_distance"
    deciles = list(decision.get("distance_deciles", ()))
    if deciles != sorted(deciles):
        yield "decision.distance_deciles do not rise"


def not_finite(values: Any, path: str = "") -> str | None:
    """Where in nested values a float is NaN or infinite; None where none is."""
    if isinstance(values, float):
        return None if math.isfinite(values) else path
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(values, Mapping):
        items = values.items()
    elif isinstance(values, list | tuple):
        items = enumerate(values)
    found = (not_finite(value, f"{path}.{key}" if path else str(key)) for key, value in items)
    return next((place for place in found if place), None)
