"""Features of a frozen backbone are kept by content: what was seen before is not computed again, whatever else the data set holds."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from btc_ray.dataset.crops import Crops
from btc_ray.model.network import build_network
from btc_ray.storage import Place
from btc_ray.training import kept_features
from btc_ray.training.kept_features import frozen_features

SIDE = 32
STATE = build_network(4).state_dict()


def crops(folder: Path, contents: list[str], *, fingerprint: str = "table-0123456789abcdef") -> Crops:
    """Crops whose pixels depend on their content alone."""
    pixels = [np.random.default_rng(int(content)).integers(0, 256, SIDE * SIDE, dtype=np.uint8).tobytes() for content in contents]
    row_ids = pa.array(range(len(contents)), pa.int64())
    place = Place(str(folder / "-".join(contents)))
    (place / "part-0.parquet").write_table(pa.table({"row_id": row_ids, "pixels": pa.array(pixels, pa.binary(SIDE * SIDE))}))
    return Crops(
        fingerprint=fingerprint,
        folder=place,
        rows=pa.table({"row_id": row_ids, "content_sha256": contents}),
        skipped={},
        size=SIDE,
    )


def test_a_data_set_that_grew_costs_its_new_images_alone(
    tmp_path: Path, ray_here: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kept_features, "KEPT_TOGETHER", 2)  # several parts
    cache, asked = Place(str(tmp_path / "cache")), []
    compute = kept_features.backbone_features

    def counted(*arguments: object, row_ids: np.ndarray, **flags: object) -> np.ndarray:
        asked.extend(row_ids.tolist())
        return compute(*arguments, row_ids=row_ids, **flags)  # type: ignore[arg-type]

    monkeypatch.setattr(kept_features, "backbone_features", counted)
    first = frozen_features(crops(tmp_path, ["11", "12", "13"]), STATE, flips=True, cache=cache)
    assert asked == [0, 1, 2]
    asked.clear()
    grown = frozen_features(crops(tmp_path, ["14", "13", "15", "11", "14"]), STATE, flips=True, cache=cache)
    assert asked == [0, 2]  # of equal files the first
    assert "Features of 2 images are cached" in capsys.readouterr().err
    assert np.array_equal(grown[[3, 1]], first[[0, 2]])
    assert np.array_equal(grown[4], grown[0])
    assert np.array_equal(
        grown,
        frozen_features(crops(tmp_path, ["14", "13", "15", "11", "14"]), STATE, flips=True, cache=Place(str(tmp_path / "other"))),
    )
    assert frozen_features(crops(tmp_path, []), STATE, flips=True, cache=cache).shape == (0, 4, 960)


def test_labels_and_groups_change_no_features_and_another_preparation_does(
    tmp_path: Path, ray_here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, contents = Place(str(tmp_path / "cache")), ["11", "12"]
    for fingerprint, kept in (
        ("table-0123456789abcdef", False),
        ("otherlabels-0123456789abcdef", True),
        ("table-fedcba9876543210", False),
    ):
        frozen_features(crops(tmp_path, contents, fingerprint=fingerprint), STATE, flips=False, cache=cache)
        assert ("Features of 2 images are cached" in capsys.readouterr().err) == kept, fingerprint


def test_changed_appearances_are_views_of_their_own_beside_the_plain_ones(tmp_path: Path, ray_here: None) -> None:
    cache, images = Place(str(tmp_path / "cache")), crops(tmp_path, ["11", "12"])
    plain = frozen_features(images, STATE, flips=True, cache=cache)
    both = frozen_features(images, STATE, flips=True, appearance=1.0, cache=cache)
    assert both.shape == (2, 8, 960)
    assert np.array_equal(both[:, :4], plain)
    assert np.abs(both[:, 4:] - plain).mean() > 0.01 * plain.std()
    assert np.array_equal(both, frozen_features(images, STATE, flips=True, appearance=1.0, cache=cache))
