"""Phantoms: reproducible, true to their own boxes and masks, different where the label says so and nowhere else."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from btc_ray.phantoms.phantom import LABELS, VIEWS, Phantom, make_phantom, write_phantoms


def _bright(phantom: Phantom, mask: np.ndarray) -> float:
    return float(np.median(phantom.pixels[mask]))


@pytest.mark.parametrize("label", LABELS)
def test_a_seed_gives_the_same_phantom_whatever_the_global_state(label: str) -> None:
    first = make_phantom(label, seed=11)
    np.random.seed(5)
    np.random.random(100)
    second = make_phantom(label, seed=11)
    assert np.array_equal(first.pixels, second.pixels)
    assert (first.view, first.head_box) == (second.view, second.head_box)
    assert not np.array_equal(first.pixels, make_phantom(label, seed=12, size=first.pixels.shape).pixels)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(180, 180), (224, 224), (640, 400), (200, 330)])
@pytest.mark.parametrize("view", VIEWS)
def test_a_phantom_has_the_size_and_view_that_was_asked_for(view: str, size: tuple[int, int]) -> None:
    phantom = make_phantom("glioma", seed=3, view=view, size=size)
    assert phantom.pixels.shape == size
    assert phantom.pixels.dtype == np.uint8
    assert phantom.pixels.flags.c_contiguous
    assert phantom.view == view


def test_sizes_and_views_vary_where_nothing_was_asked_for() -> None:
    phantoms = [make_phantom("notumor", seed=seed) for seed in range(40)]
    assert {phantom.view for phantom in phantoms} == set(VIEWS)
    sides = [side for phantom in phantoms for side in phantom.pixels.shape]
    assert 180 <= min(sides) < 230
    assert 450 < max(sides) <= 640
    assert any(phantom.pixels.shape[0] != phantom.pixels.shape[1] for phantom in phantoms)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("seed", range(12))
def test_the_head_box_holds_the_head_and_fits_tightly(view: str, seed: int) -> None:
    phantom = make_phantom("notumor", seed=seed, view=view, size=(256, 256))
    x, y, w, h = phantom.head_box
    assert x >= 0
    assert y >= 0
    assert x + w <= 256
    assert y + h <= 256
    if view != "axial":
        assert y + h == 256, "the neck leaves the frame at the bottom"
    # Smoothing and a threshold of the test's own: what stands out from air lies in the box and reaches its sides.
    smooth = cv2.GaussianBlur(phantom.pixels, (0, 0), 2).astype(int)
    air = np.ones((256, 256), bool)
    air[max(0, y - 4) : y + h + 4, max(0, x - 4) : x + w + 4] = False
    air[:26] = air[-26:] = False  # burned-in text stands in the corners
    head = smooth[y : y + h, x : x + w]
    level = smooth[air].max() if air.any() else 25
    assert level < np.percentile(head, 60)
    seen = head > level + 6
    assert np.flatnonzero(seen.any(axis=0))[[0, -1]] == pytest.approx([0, w - 1], abs=6)
    assert np.flatnonzero(seen.any(axis=1))[0] == pytest.approx(0, abs=6)


def test_healthy_phantoms_have_no_lesion_and_others_have_one_inside_the_head() -> None:
    assert make_phantom("notumor", seed=1).lesion_mask is None
    for label in set(LABELS) - {"notumor"}:
        for seed in range(15):
            phantom = make_phantom(label, seed=seed, size=(256, 256))
            mask = phantom.lesion_mask
            assert mask is not None
            assert mask.dtype == bool
            assert mask.shape == (256, 256)
            x, y, w, h = phantom.head_box
            assert mask.any()
            assert mask.sum() == mask[y : y + h, x : x + w].sum()
            assert 0.003 < mask.mean() < 0.15


@pytest.mark.parametrize("label", ["meningioma", "pituitary"])
def test_solid_tumours_are_brighter_than_the_same_brain_without_them(label: str) -> None:
    brighter = 0
    for seed in range(20):
        ill, healthy = (make_phantom(name, seed=seed, view="coronal", size=(256, 256)) for name in (label, "notumor"))
        assert ill.lesion_mask is not None
        brighter += _bright(ill, ill.lesion_mask) > 1.2 * _bright(healthy, ill.lesion_mask)
    assert brighter >= 18


@pytest.mark.parametrize("view", ["axial", "sagittal"])
def test_the_label_changes_nothing_far_from_the_lesion(view: str) -> None:
    """One head under all labels: no shortcut by noise, brightness, size or pose. Where lossy copies are made, blocks differ a little."""
    for seed in range(8):
        healthy, ill = (make_phantom(label, seed=seed, view=view, size=(224, 224)) for label in ("notumor", "meningioma"))
        assert healthy.head_box == ill.head_box
        assert ill.lesion_mask is not None
        far = cv2.dilate(ill.lesion_mask.astype(np.uint8), np.ones((91, 91), np.uint8)) == 0
        assert np.abs(healthy.pixels.astype(int) - ill.pixels)[far].mean() < 0.5


def test_pituitary_masses_sit_near_the_midline_and_below_the_top_half_of_the_head() -> None:
    for seed in range(15):
        phantom = make_phantom("pituitary", seed=seed, view="coronal", size=(256, 256))
        assert phantom.lesion_mask is not None
        rows, columns = np.nonzero(phantom.lesion_mask)
        x, y, w, h = phantom.head_box
        assert abs(columns.mean() - (x + w / 2)) < 0.12 * w
        assert rows.mean() > y + 0.38 * h


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"label": "astrocytoma", "seed": 1}, "unknown label 'astrocytoma'"),
        ({"label": "glioma", "seed": 1, "view": "oblique"}, "unknown view 'oblique'"),
        ({"label": "glioma", "seed": -1}, "negative"),
        ({"label": "glioma", "seed": 1, "size": (10, 300)}, "between 96 and 2048"),
    ],
)
def test_impossible_wishes_are_named(arguments: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_phantom(**arguments)


def test_written_phantoms_have_the_kaggle_layout_and_can_be_read(tmp_path: Path) -> None:
    paths = write_phantoms(tmp_path, per_class={"glioma": 3, "notumor": 30}, seed=4, size=(180, 180))
    assert Counter((path.parent.parent.name, path.parent.name) for path in paths) == {
        ("Training", "glioma"): 3,
        ("Training", "notumor"): 30,
        ("Testing", "glioma"): 3,
        ("Testing", "notumor"): 30,
    }
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(paths)
    assert {path.suffix for path in paths} == {".jpg", ".png"}
    images = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths]
    assert {image.ndim for image in images} == {2, 3}, "some grey, some RGB"
    assert all(image.shape[:2] == (180, 180) for image in images)


def test_no_image_of_testing_is_in_training_nor_under_another_seed(tmp_path: Path) -> None:
    paths = write_phantoms(tmp_path / "a", per_class=4, seed=0, size=(180, 180))
    paths += write_phantoms(tmp_path / "b", per_class=4, seed=1, size=(180, 180))
    pixels = {cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).tobytes() for path in paths}
    assert len(pixels) == len(paths) == 64


def test_writing_again_writes_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write_phantoms(tmp_path / name, per_class=1, seed=9, size=(180, 180)) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.mark.parametrize(("per_class", "words"), [({"metastasis": 2}, "unknown class"), (-1, "between 0"), (10**6, "between 0")])
def test_impossible_counts_are_named(tmp_path: Path, per_class: int | dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        write_phantoms(tmp_path, per_class=per_class, seed=0)
    assert not list(tmp_path.iterdir())
