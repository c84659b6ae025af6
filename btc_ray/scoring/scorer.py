"""The scorer: a batch of manifest rows in, a table of result rows out, on a laptop and on a cluster alike.

It never raises because of an image: whatever is wrong with one is its row's `status` and `error`.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from btc_ray.images.batch import pixels_of
from btc_ray.images.prepare import Preprocess
from btc_ray.images.surround import surround
from btc_ray.model.bundle import Bundle
from btc_ray.model.engines.engine import Engine
from btc_ray.model.reference import decide
from btc_ray.scoring.table import scores_schema
from btc_ray.storage import Options
from btc_ray.studies.preparer import Preparer
from btc_ray.studies.shown import STUDY


class Predictor:
    """A table of `prepared_schema` → result rows: the model and nothing else."""

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self._bundle, self._engine = bundle, engine
        self._schema = scores_schema(bundle)

    def __call__(self, prepared: pa.Table) -> pa.Table:
        predicted = np.array(prepared["pixels"].is_valid())
        probabilities = np.zeros((len(prepared), len(self._bundle.classes)), np.float32)
        distance, energy, around = np.full((3, len(prepared)), np.nan, np.float32)
        status, error, pixels = prepared["status"].to_pylist(), prepared["error"].to_pylist(), pixels_of(prepared)
        around[predicted] = surround(pixels)
        for index, outcome in zip(np.flatnonzero(predicted), self._predict(pixels), strict=True):
            if isinstance(outcome, str):
                status[index], error[index], predicted[index] = "failed", outcome, False
            else:
                probabilities[index], energy[index], distance[index] = outcome
        confidence, placed = probabilities.max(axis=1), predicted & ~np.isnan(distance)
        decisions = np.full(len(prepared), None, object)
        if placed.any():
            decisions = decide(confidence, distance, around, self._bundle.decision)
        best = probabilities.argmax(axis=1)
        columns = {name: prepared[name] for name in prepared.column_names}
        for column in STUDY:  # all null for pictures, and absent where nobody said what they are
            columns.setdefault(column.name, pa.nulls(len(prepared), column.type))
        studied = columns["kind"].is_valid()
        for name in ("window_low", "window_high"):
            columns[name] = pc.if_else(studied, columns[name], pa.scalar(None, pa.float32()))
        columns |= {
            "status": status,
            "error": error,
            "label": pa.array(np.array(self._bundle.classes, dtype=object)[best], pa.string(), mask=~predicted),
            "confidence": pa.array(confidence, pa.float32(), mask=~predicted),
            "model_id": [self._bundle.model_id] * len(prepared),
            "preprocess_id": [self._bundle.preprocess_id] * len(prepared),
            "feature_distance": pa.array(distance, pa.float32(), mask=~placed),
            "energy": pa.array(energy, pa.float32(), mask=~predicted),
            "decision": pa.array(decisions, pa.string(), mask=~placed),
            "surround": pa.array(around, pa.float32(), mask=~predicted | np.isnan(around)),
        }
        for number, name in enumerate(self._bundle.probability_columns):
            columns[name] = pa.array(probabilities[:, number], pa.float32(), mask=~predicted)
        return pa.table([columns[name] for name in self._schema.names], schema=self._schema)

    def _predict(self, pixels: np.ndarray) -> list[tuple[np.ndarray, float, float] | str]:
        """Probabilities, energy and distance of each image, or why the model failed on it; a batch that fails is tried again in halves."""
        if len(pixels) == 0:
            return []
        try:
            answers = self._engine.answers(pixels)
        except (RuntimeError, MemoryError) as error:  # torch raises RuntimeError for out of memory and for broken kernels
            if len(pixels) == 1:
                return [f"the model failed on this image: {(str(error) or type(error).__name__).splitlines()[0]}"]
            half = len(pixels) // 2
            return self._predict(pixels[:half]) + self._predict(pixels[half:])
        finite = np.isfinite(answers.probabilities).all(axis=1) & np.isfinite(answers.energy)
        rows = zip(*answers, strict=True)
        return [row if good else "the model gave no finite probability" for row, good in zip(rows, finite, strict=True)]


class Scorer:
    """Preparer and Predictor in one call: nothing travels between them."""

    def __init__(self, bundle: Bundle, engine: Engine, options: Options = None) -> None:
        self._prepare = Preparer(Preprocess.from_dict(bundle.preprocess), options)
        self._predict = Predictor(bundle, engine)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Manifest rows in, the same number of `scores` rows out, in the same order."""
        return self._predict(self._prepare(batch))
