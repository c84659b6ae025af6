"""The `scores` table: one row per manifest row, its columns fixed by the contract in the design."""

import pyarrow as pa

from btc_ray import NOT_FOR_DIAGNOSIS
from btc_ray.images.batch import OUTCOME
from btc_ray.model.bundle import Bundle, class_metadata
from btc_ray.studies.shown import STUDY

STATUSES = ("ok", "unreadable", "unsupported", "failed")


def scores_schema(bundle: Bundle) -> pa.Schema:
    """Columns of `scores`, with the model's constants in the file metadata. Later columns are added at the end, never renamed.

    `feature_distance` and `decision` are null where the bundle has no thresholds (see `model.reference`), `surround` where a picture
    has no contrast at all (see `images.surround`).
    """
    return pa.schema(
        [
            *OUTCOME,
            pa.field("label", pa.string()),
            pa.field("confidence", pa.float32()),
            *(pa.field(name, pa.float32()) for name in bundle.probability_columns),
            pa.field("content_sha256", pa.string()),
            pa.field("model_id", pa.string(), nullable=False),
            pa.field("preprocess_id", pa.string(), nullable=False),
            pa.field("feature_distance", pa.float32()),
            pa.field("energy", pa.float32()),
            pa.field("decision", pa.string()),
            pa.field("surround", pa.float32()),
            *STUDY,
        ],
        metadata={
            "model_id": bundle.model_id,
            "preprocess_id": bundle.preprocess_id,
            **class_metadata(bundle.classes),
            "notice": NOT_FOR_DIAGNOSIS,
        },
    )
