"""What `bundle.json` says of a model, as a record."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from btc_ray.errors import FAILED, UserError
from btc_ray.model.bundle.columns import columns_of

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FORMAT = 1


class BundleError(UserError):
    """A bundle that is missing, damaged or not ours; the message says which file and what to do."""


class UnreachableBundleError(BundleError):
    """A bundle whose store gives no answer, or forbids it; nothing is said of the bundle itself."""

    exit_code = FAILED


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """What `bundle.json` says. `model_id` is the first 16 hex digits of the sha256 of `model.safetensors`."""

    classes: tuple[str, ...]
    model_id: str
    preprocess: dict[str, Any]
    preprocess_id: str
    architecture: str = "resnet18"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    temperature: float = 1.0  # logits are divided by it before the softmax
    test_time_flips: bool = False  # logits are the mean over the image and its three flips: four times the work
    training: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    decision: dict[str, Any] = field(default_factory=dict)  # thresholds of accept, review, reject; empty: none were measured
    int8: dict[str, Any] = field(default_factory=dict)  # how int8.safetensors agreed with fp32; empty: there is none
    metrics: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    created: str = ""
    columns: tuple[str, ...] = ()  # of the classes' probabilities; empty in bundles of before they were recorded
    format: int = FORMAT
    more: dict[str, Any] = field(default_factory=dict)  # what a newer version wrote and this one does not know; it is kept

    def to_dict(self) -> dict[str, Any]:
        """As `bundle.json` holds it."""
        record = asdict(self)
        return record.pop("more") | record

    @property
    def probability_columns(self) -> tuple[str, ...]:
        """The column of scores for each class."""
        return columns_of(self.classes, self.columns)


def bundle_id(bundle: Bundle) -> str:
    """16 hex digits of everything that a row of scores depends on: weights, classes, preprocessing, normalisation, temperature, flips,
    thresholds. Not of what only tells about the model, not of the rule for series, which is used when all rows are there, and not of its
    int8 form, which has an id of its own."""
    names = ("classes", "model_id", "preprocess_id", "mean", "std", "temperature", "test_time_flips", "decision")
    content = {name: getattr(bundle, name) for name in names}
    content["decision"] = {name: value for name, value in bundle.decision.items() if name != "series_rule"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def version_id(bundle: Bundle) -> str:
    """16 hex digits of all that its description says: the name of its own folder in `versions`."""
    return hashlib.sha256(json.dumps(bundle.to_dict(), sort_keys=True).encode()).hexdigest()[:16]
