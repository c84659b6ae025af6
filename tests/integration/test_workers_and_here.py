"""What few images get in the driver's own process is what many get from workers."""

from pathlib import Path

import numpy as np
import pytest

from btc_ray.dataset import crops as crops_module
from btc_ray.dataset.crops import labelled_crops
from btc_ray.dataset.table import read_labelled
from btc_ray.images.prepare import Preprocess
from btc_ray.model.weights import initial_network
from btc_ray.storage import Place
from btc_ray.training import features as features_module
from btc_ray.training.augment import FLIPS
from btc_ray.training.features import backbone_features

pytestmark = pytest.mark.ray


def test_crops_and_features_are_the_same_from_workers_and_from_this_process(
    phantoms: Path, tmp_path: Path, ray_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, preprocess = read_labelled(Place(str(phantoms))), Preprocess(size=64)
    state = initial_network("none", 4, seed=0).state_dict()
    here = labelled_crops(table, preprocess=preprocess, cache=Place(str(tmp_path / "here")))
    wanted = np.asarray(here.rows["row_id"])[5:50]
    features = backbone_features(here, state, variants=FLIPS, row_ids=wanted)
    monkeypatch.setattr(crops_module, "FEW_ROWS", 0)
    monkeypatch.setattr(features_module, "FEW_PASSES", 0)
    theirs = labelled_crops(table, preprocess=preprocess, cache=Place(str(tmp_path / "there")))
    assert theirs.rows.equals(here.rows)
    assert np.array_equal(theirs.pixels, here.pixels)
    assert features.shape == (45, 4, 960)
    np.testing.assert_allclose(backbone_features(theirs, state, variants=FLIPS, row_ids=wanted), features, atol=1e-4)
