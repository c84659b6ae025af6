"""Finished run folders without a model: a `scores` table of the rows that a test names, and the run.json of a complete run."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from btc_ray import storage
from btc_ray.storage import Place

CLASSES = ("glioma", "notumor")


def row(uri: str, label: str | None = "notumor", confidence: float | None = 0.9, **columns: Any) -> dict[str, Any]:
    """One row of CLASSES; without a label it is unreadable. Its bytes are told by its file name, so that a moved file stays itself."""
    ok = label is not None
    return {
        "uri": uri,
        "status": "ok" if ok else "unreadable",
        "error": None if ok else "cut short at byte 17",
        "label": label,
        "confidence": confidence if ok else None,
        **{f"prob_{name}": (confidence if name == label else 1 - (confidence or 0)) if ok else None for name in CLASSES},
        "content_sha256": uri.rpartition("/")[2] if ok else None,
        **columns,
    }


def scores(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The table of such rows, numbered in their order unless they say otherwise."""
    numbered = [{"row_id": number, **values} for number, values in enumerate(rows)]
    numbers = {"row_id": pa.int64(), **{name: pa.float32() for name in ("confidence", *(f"prob_{name}" for name in CLASSES))}}
    names = list(dict.fromkeys(name for values in numbered for name in values)) or list({"row_id": 0, **row("")})
    return pa.table({name: pa.array([values[name] for values in numbered], numbers.get(name, pa.string())) for name in names})


def write_run(
    uri: str,
    *parts: Sequence[Mapping[str, Any]],
    options: Mapping[str, str] | None = None,
    complete: bool = True,
    **fingerprint: Any,
) -> str:
    """A run folder of the rows of `parts`, a file each; returns its URI."""
    table = scores([values for part in parts for values in part])
    begin = 0
    for number, part in enumerate(parts):
        Place(f"{uri}/scores/part-{number:05d}.parquet", options or {}).write_table(table.slice(begin, len(part)))
        begin += len(part)
    told = {"inputs": ["/archive"], "model_id": "0123456789abcdef", "preprocess_id": "fedcba9876543210"}
    told |= {"engine": "torch", "precision": "fp32", "test_time_flips": False} | fingerprint
    state = {"kind": "score", "complete": complete, "fingerprint": told, "classes": CLASSES, "manifest": {"rows": len(table)}}
    storage.write_bytes(f"{uri}/run.json", json.dumps(state).encode(), options)
    return uri
