"""Folds: every image is answered once by a model that never saw its patient or copies. One training a fold, kept when it is done.

Only jobs that use Ray load this module.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import softmax

from btc_ray.dataset.labelled import LabelledImages
from btc_ray.model.bundle.columns import PREFIX, class_metadata, column_names
from btc_ray.progress import say
from btc_ray.settings import Retrain
from btc_ray.storage.redact import public_uri
from btc_ray.training.calibration import cross_entropy, fit_temperature
from btc_ray.training.features import backbone_id
from btc_ray.training.fit import check_converged, fit, run_name
from btc_ray.training.head import head_logits
from btc_ray.training.prepare import Prepared
from btc_ray.training.thresholds import fit_reference

LOGIT = "logit_"  # before the name of a class, as prob_ stands before it


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One training. `epoch`: the one that validation images chose; `temperature`: fitted on them; `images`: that it measured."""

    number: int
    epoch: int
    temperature: float
    images: int


@dataclass(frozen=True, kw_only=True)
class OutOfFold:
    """`table`: one row an image, `out_of_fold_schema`, in the order of the listing; `folds`: the trainings behind it."""

    table: pa.Table
    folds: tuple[Fold, ...]
    classes: tuple[str, ...]

    @property
    def of_one_class(self) -> "OutOfFold":
        """The images whose label names one class."""
        return replace(self, table=self.table.filter(pc.is_in(self.table["label"], pa.array(self.classes))))

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,): positions in `classes`, of images whose labels name one."""
        return np.searchsorted(self.classes, self.table["label"].to_pylist())

    @property
    def logits(self) -> np.ndarray:
        """float32 (N, classes), not calibrated."""
        return np.column_stack([self.table[name].to_numpy() for name in logit_columns(self.classes)])

    @property
    def probabilities(self) -> np.ndarray:
        """float32 (N, classes), calibrated by the temperature of each image's fold."""
        return np.column_stack([self.table[name].to_numpy() for name in column_names(self.classes)])

    def figures(self) -> dict[str, Any]:
        """What bundle.json says: the figures of all images whose label names one class, together."""
        found = self.of_one_class
        labels = found.labels
        return {
            "images": len(labels),
            "accuracy": float((found.logits.argmax(1) == labels).mean()),
            "loss": cross_entropy(np.log(np.maximum(found.probabilities, np.finfo(np.float32).tiny)), labels),
            "loss_uncalibrated": cross_entropy(found.logits, labels),
            "folds": len(self.folds),
            "groups": len(self.table["group"].unique()),
        }


def logit_columns(classes: Sequence[str]) -> tuple[str, ...]:
    """`logit_<class>` for each class, its name written as in `prob_<class>`."""
    return tuple(LOGIT + name.removeprefix(PREFIX) for name in column_names(classes))


def out_of_fold_schema(classes: Sequence[str]) -> pa.Schema:
    """The columns of out_of_fold.parquet."""
    return pa.schema(
        [
            pa.field("uri", pa.string(), nullable=False),
            pa.field("group", pa.int64(), nullable=False),  # patients joined with copies: the unit of folds and intervals
            pa.field("patient", pa.string()),  # null: not known
            pa.field("examination", pa.string()),  # null: not known
            pa.field("label", pa.string(), nullable=False),
            pa.field("fold", pa.int64(), nullable=False),  # from 0
            *(
                pa.field(name, pa.float32(), nullable=False) for name in column_names(classes)
            ),  # calibrated on the fold's validation
            *(pa.field(name, pa.float32(), nullable=False) for name in logit_columns(classes)),  # not calibrated
            pa.field(
                "feature_distance", pa.float32()
            ),  # to what the fold's model learned from; null: its features have no spread
            pa.field("surround", pa.float32()),  # brightness of the crop's corners
            pa.field("content_sha256", pa.string()),
            pa.field("row_id", pa.int64(), nullable=False),  # in the listing of --data
            pa.field("source", pa.string()),  # null: the data does not say
        ],
        metadata=class_metadata(classes),
    )


def out_of_fold(settings: Retrain, prepared: Prepared, images: LabelledImages) -> OutOfFold:
    """Train one model a fold and let it answer the images of that fold. Needs a Ray that is joined. Raises SplitError, PoolError and
    DivergedError.

    A fold that is done is kept in the cache and not trained again; one that was killed goes on at its last epoch.
    """
    assert settings.folds is not None
    folds, parts = [], []
    for number in range(settings.folds):
        sides = images.of_fold(number, validation=settings.validation, seed=settings.seed)
        name = run_name(settings, sides, backbone_id(prepared.network.state_dict()))
        place = prepared.cache / "folds" / f"{name}{'-flips' if settings.test_time_flips else ''}.parquet"
        begin = f"Fold {number + 1} of {settings.folds}"
        if place.exists():
            say(f"{begin} is done, and kept in {place}.")
        else:
            say(f"{begin}: {len(sides.rows('test')):,} images measure.")
            place.write_table(_answers(settings, prepared, sides, f"fold-{number + 1}"))
        found = place.read_table()
        facts = {
            key.decode(): float(value)
            for key, value in (found.schema.metadata or {}).items()
            if key in (b"epoch", b"temperature")
        }
        folds.append(Fold(number=number, epoch=int(facts["epoch"]), temperature=facts["temperature"], images=len(found)))
        parts.append(found)
    return OutOfFold(table=_assembled(images, folds, parts), folds=tuple(folds), classes=images.classes)


def _answers(settings: Retrain, prepared: Prepared, sides: LabelledImages, part: str) -> pa.Table:
    """What the model of a fold makes of the images of that fold: `row_id`, `logits`, `feature_distance`."""
    network = fit(settings, prepared, sides, part=part)
    check_converged(network)
    validation, test = sides.of_one_class(sides.rows("validation")), sides.rows("test")
    logits = head_logits(network.state, network.features)
    temperature = fit_temperature(logits[validation], sides.labels[validation])
    reference = fit_reference(network.features[network.learned], sides.labels[network.learned], network.features[validation])
    distance = [None] * len(test) if reference is None else reference.distance(network.features[test]).tolist()
    return pa.table(
        {
            "row_id": sides.row_ids(test),
            "logits": pa.array(logits[test].tolist(), pa.list_(pa.float32())),
            "feature_distance": pa.array(distance, pa.float32()),
        }
    ).replace_schema_metadata({"epoch": str(network.fitted.epoch), "temperature": str(temperature)})


def _assembled(images: LabelledImages, folds: Sequence[Fold], parts: Sequence[pa.Table]) -> pa.Table:
    """The answers of all folds as one table."""
    answers = pa.concat_tables(parts).replace_schema_metadata(None)
    temperatures = np.concatenate([np.full(fold.images, fold.temperature) for fold in folds])
    order = np.argsort(answers["row_id"].to_numpy())
    answers, temperatures = answers.take(pa.array(order)), temperatures[order]
    assert images.folds is not None
    measured = np.flatnonzero(images.folds >= 0)
    assert np.array_equal(answers["row_id"].to_numpy(), images.row_ids(measured)), "every image measures once"
    logits = np.array(answers["logits"].to_pylist(), np.float32).reshape(len(measured), len(images.classes))
    likely = softmax(logits / temperatures[:, None], axis=1).astype(np.float32)
    rows = images.crops.rows.take(pa.array(measured))
    schema = out_of_fold_schema(images.classes)
    columns = {
        "uri": [public_uri(uri) for uri in rows["uri"].to_pylist()],
        "group": images.groups[measured],
        "patient": rows["group"],
        "examination": [images.examinations[row] for row in measured.tolist()],
        "label": rows["label"],
        "fold": images.folds[measured],
        **dict(zip(column_names(images.classes), likely.T, strict=True)),
        **dict(zip(logit_columns(images.classes), logits.T, strict=True)),
        "feature_distance": answers["feature_distance"],
        "surround": images.crops.surround(measured),
        "content_sha256": rows["content_sha256"],
        "row_id": rows["row_id"],
        "source": rows["source"],
    }
    return pa.table([columns[name] for name in schema.names], schema=schema)
