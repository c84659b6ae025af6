"""Bundles with thresholds, made of one that has none."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from btc_ray.model.bundle import read_bundle
from btc_ray.model.reference import reference_id
from btc_ray.storage import Place


def deciding_bundle(model: Path, folder: Path, **decision: Any) -> Path:
    """A copy of a bundle of four classes that decides by the length of its features, as bundles of before 0.2.0 do: `accept_distance`,
    `reject_distance` and whatever else `decision` is to say."""
    shutil.copytree(model, folder)
    stored = save({"means": np.zeros((4, 512), np.float32), "precision": np.eye(512, dtype=np.float32)})
    (folder / "reference.safetensors").write_bytes(stored)
    content = asdict(read_bundle(Place(str(model))))
    content["decision"] = {
        "accept_confidence": 0.5,
        "target_risk": 0.01,
        "validation": {"images": 40, "accepted": 30, "wrong_among_accepted": 0, "wrong": 2},
        "risk_coverage": [{"coverage": 1.0, "images": 40, "confidence": 0.3, "accuracy": 0.95}],
        "reference_id": reference_id(stored),
        **decision,
    }
    (folder / "bundle.json").write_text(json.dumps(content))
    return folder
