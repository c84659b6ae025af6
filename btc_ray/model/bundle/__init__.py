"""The model bundle: a folder with weights and every fact needed to use them, read and written without executing code."""

from btc_ray.model.bundle.columns import PREFIX, class_metadata, columns_of, probability_columns
from btc_ray.model.bundle.description import IMAGENET_MEAN, IMAGENET_STD, Bundle, BundleError, bundle_id
from btc_ray.model.bundle.files import (
    NO_INT8,
    check_bundle,
    read_arrays,
    read_bundle,
    read_int8,
    read_reference,
    read_split,
    read_weights,
    weights_id,
)
from btc_ray.model.bundle.provenance import library_versions
from btc_ray.model.bundle.publish import write_bundle

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "NO_INT8",
    "PREFIX",
    "Bundle",
    "BundleError",
    "bundle_id",
    "check_bundle",
    "class_metadata",
    "columns_of",
    "library_versions",
    "probability_columns",
    "read_arrays",
    "read_bundle",
    "read_int8",
    "read_reference",
    "read_split",
    "read_weights",
    "weights_id",
    "write_bundle",
]
