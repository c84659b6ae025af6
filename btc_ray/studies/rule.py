"""The rule from the slices of a series to its label: tumour or none, by a logistic function of what the slices come to.

It is fitted on labelled patients (`training.series_rule`) and belongs to one model: without one a series has evidence and no label.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
import numpy as np

from btc_ray.errors import UserError

TUMOUR = "tumour"  # the label of a series in which the rule sees one: it was not fitted to say which
FEATURES = ("mean", "share", "run", "used")
"""Over the used slices: the mean probability of a tumour, the share called one, the longest run of one tumour class as a share of them;
and the share of the series' slices that is used."""
KINDS: dict[str, tuple[str, ...]] = {"mean": ("mean",), "share": ("share",), "run": ("run",), "logistic": FEATURES}
"""The candidates, the simplest first, with the features that each looks at."""


class RuleError(UserError):
    """A rule that is damaged, or of another model."""


@dataclass(frozen=True, kw_only=True)
class SeriesRule:
    """P(tumour) = 1 / (1 + exp(−intercept − Σ weight · feature)), where both are equally frequent; a half and more is a tumour.

    Attributes:
        weights: of each feature of the kind, in their order.
        healthy: the class that is no tumour, which is the label of a series without one.
        model_id, preprocess_id: what made the scores that it was fitted on.
        measured: sensitivity, specificity and AUROC on patients that it was not fitted on, and on how many.
    """

    kind: str
    weights: tuple[float, ...]
    intercept: float
    healthy: str
    model_id: str
    preprocess_id: str
    measured: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the column `rule` says: the kind, and 8 hex digits that tell this rule from others of its kind."""
        what = json.dumps([self.kind, self.weights, self.intercept, self.healthy, self.model_id, self.preprocess_id])
        return f"{self.kind}-{hashlib.sha256(what.encode()).hexdigest()[:8]}"

    def probability(self, features: np.ndarray) -> np.ndarray:
        """float64 (N, 4) of FEATURES → float64 (N,)."""
        return 1 / (1 + np.exp(-(self.intercept + of_kind(self.kind, features) @ np.array(self.weights))))

    def to_dict(self) -> dict[str, Any]:
        """As a bundle, run.json and rule.json hold it."""
        return asdict(self)


def read_rule(record: Mapping[str, Any], *, source: str) -> SeriesRule:
    """The rule of a record. Raises RuleError, which names `source`."""
    try:
        rule = msgspec.convert(record, SeriesRule)
    except msgspec.ValidationError as error:
        raise RuleError(f"{source}: the rule for series is damaged ({error}); fit it again.") from error
    numbers = [*rule.weights, rule.intercept]
    if rule.kind not in KINDS or len(rule.weights) != len(KINDS[rule.kind]) or not np.isfinite(numbers).all():
        raise RuleError(f"{source}: the rule for series is damaged (its kind or its numbers); fit it again.")
    return rule


def check_model(rule: SeriesRule, *, model_id: str, preprocess_id: str, classes: Sequence[str]) -> None:
    """Raises RuleError where a rule is not of the model that made the scores it is to be used on."""
    if (rule.model_id, rule.preprocess_id) != (model_id, preprocess_id) or rule.healthy not in classes:
        raise RuleError(
            f"the rule for series was fitted on scores of model {rule.model_id}, and these are of {model_id}; fit one for it."
        )


def of_kind(kind: str, features: np.ndarray) -> np.ndarray:
    """Of float64 (N, 4) of FEATURES those that a kind of rule looks at."""
    return features[:, [FEATURES.index(name) for name in KINDS[kind]]]


def features_of(rows: Mapping[str, np.ndarray]) -> np.ndarray:
    """FEATURES of series as float64 (N, 4). `rows`: float arrays (N,) of mean_tumour, share_tumour, longest_run, n_used and slices."""
    used = np.maximum(rows["n_used"], 1)
    return np.column_stack(
        [rows["mean_tumour"], rows["share_tumour"], rows["longest_run"] / used, rows["n_used"] / np.maximum(rows["slices"], 1)]
    )
