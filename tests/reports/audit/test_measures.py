"""Probes, planes, labels in doubt and masks: they find what is there, and nothing where nothing is."""

import numpy as np
import pytest

from btc_ray.phantoms.phantom import VIEWS
from btc_ray.reports.audit.label_doubts import doubtful_labels, held_out_probabilities
from btc_ray.reports.audit.masking import ask_masked, centre_only, without_centre
from btc_ray.reports.audit.planes import fit_planes, plane_features
from btc_ray.reports.audit.probes import CLEAN, GROUP, PUBLISHED, Sides, run_probes

COUNT = 160
CLASSES = ("cats", "dogs")


def probed(frames: np.ndarray, labels: np.ndarray, *, copied: np.ndarray | None = None) -> dict[str, dict[str, dict]]:
    histograms = np.stack([np.histogram(frame, 32, (0, 256))[0] / frame.size for frame in frames]).astype(np.float32)
    train = np.arange(len(frames)) < len(frames) // 2
    sides = {PUBLISHED: Sides(train=train, test=~train), GROUP: Sides(train=~train, test=train)}
    copied = np.zeros(len(frames), bool) if copied is None else copied
    found = run_probes(frames, histograms, labels, np.arange(len(frames)), sides, copied, CLASSES)
    return {record["key"]: record["results"] for record in found}


def noise(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.integers(60, 190, (COUNT, 64, 64)).astype(np.uint8), np.arange(COUNT) % 2


def test_a_class_that_shows_in_the_border_is_told_by_the_border_alone() -> None:
    frames, labels = noise(0)
    frames[labels == 1, :2] += 40
    found = probed(frames, labels)
    assert found["border"][GROUP]["accuracy"]["value"] > 0.95
    assert found["border"][GROUP]["chance"] == 0.5
    assert found["silhouette"][GROUP]["accuracy"]["value"] < 0.75


def test_a_class_that_shows_in_the_brightness_is_told_by_the_histogram_but_not_by_the_silhouette() -> None:
    frames, labels = noise(1)
    frames[labels == 1] += 30
    found = probed(frames, labels)
    assert found["histogram"][PUBLISHED]["accuracy"]["value"] > 0.95
    assert found["silhouette"][PUBLISHED]["accuracy"]["value"] < 0.75


def test_the_outline_is_told_by_the_silhouette() -> None:
    frames, labels = noise(2)
    for label, rows in ((0, slice(8, 56)), (1, slice(20, 44))):
        mask = np.zeros((64, 64), bool)
        mask[rows, 10:54] = True
        frames[labels == label] *= mask
    assert probed(frames, labels)["silhouette"][GROUP]["accuracy"]["value"] == 1.0


def test_a_copy_in_training_is_remembered_by_the_nearest_neighbour_and_not_counted_without_copies() -> None:
    frames, labels = noise(3)
    half = COUNT // 2
    copied = np.zeros(COUNT, bool)
    copied[half : half + 40] = True
    frames[half : half + 40] = frames[:40]
    found = probed(frames, labels, copied=copied)["neighbour"]
    assert found[PUBLISHED]["accuracy"]["value"] > 0.65
    assert found[CLEAN]["images"] == 40
    assert found[CLEAN]["accuracy"]["value"] < 0.75


def test_a_division_with_one_class_to_learn_from_says_so() -> None:
    frames, _ = noise(4)
    labels = np.r_[np.zeros(COUNT // 2, int), np.arange(COUNT // 2) % 2]
    assert "two classes" in probed(frames, labels)["histogram"][PUBLISHED]["reason"]


def test_planes_are_told_on_phantoms_that_were_not_learned_from_whichever_way_they_face() -> None:
    model = fit_planes(phantoms=120, held_out=60)
    assert model.accuracy["value"] > 0.75
    assert list(model.by_plane) == list(VIEWS)
    assert model.probabilities(plane_features(np.zeros((0, 64, 64), np.uint8))).shape == (0, 3)
    blank = model.probabilities(plane_features(np.zeros((2, 64, 64), np.uint8)))
    assert np.isfinite(blank).all()


def test_planted_wrong_labels_are_suspected_and_of_the_right_class() -> None:
    random = np.random.default_rng(0)
    truth = np.arange(300) % 3
    features = (np.repeat(np.eye(3)[truth], 40, axis=1) * 2 + random.standard_normal((300, 120))).astype(np.float32)
    labels = truth.copy()
    labels[:12] = (truth[:12] + 1) % 3
    found = doubtful_labels(held_out_probabilities(features, labels, np.arange(300), 3), labels)
    assert (found.suspected[:12] == truth[:12]).sum() >= 10
    assert (found.suspected[12:] >= 0).mean() < 0.08
    assert set(np.argsort(found.margin)[:8]) <= {*range(12)} | set(np.flatnonzero(found.suspected >= 0))


def test_no_image_is_judged_by_a_head_that_has_seen_its_copy() -> None:
    """Features that name the copy and nothing else: who has seen one knows the other's label."""
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 2)
    labels = np.repeat(random.permutation(np.arange(60) % 2), 2)
    features = np.eye(60, dtype=np.float32)[groups] * 10
    by_group = held_out_probabilities(features, labels, groups, 2)
    alone = held_out_probabilities(features, labels, np.arange(120), 2)
    assert (by_group.argmax(axis=1) == labels).mean() < 0.7
    assert (alone.argmax(axis=1) == labels).mean() > 0.8


@pytest.mark.parametrize("labels", [[0] * 6, [0, 1, 1, 1, 1, 1]])
def test_too_few_images_of_a_class_give_no_probabilities(labels: list[int]) -> None:
    assert held_out_probabilities(np.eye(6, dtype=np.float32), np.array(labels), np.arange(6), 2) is None


def test_a_model_that_looks_at_the_border_alone_does_not_mind_a_masked_centre() -> None:
    pixels = np.full((20, 40, 40), 100, np.uint8)
    pixels[10:, 0] = 255
    pixels[:10, 20, 20] = 250
    labels = ["cats"] * 10 + ["dogs"] * 10

    def by_border(shown: np.ndarray) -> np.ndarray:
        bright = (shown[:, 0].mean(axis=1) > 200).astype(float)
        return np.stack([1 - bright, bright], axis=1)

    rows = ask_masked(by_border, pixels, labels, CLASSES)["rows"]
    found = {(row["kind"], row["share"]): row["accuracy"]["value"] for row in rows}
    assert found["whole", None] == found["without_centre", 0.5] == found["without_centre", 0.7] == 1.0
    assert found["centre_only", 0.5] == 0.5


def test_a_mask_covers_the_middle_square_and_its_opposite_the_rest() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 40)).astype(np.uint8)
    hidden, only = without_centre(pixels, 0.5), centre_only(pixels, 0.5)
    assert (hidden[:, 10:30, 10:30].std(axis=(1, 2)) == 0).all()
    assert (only[:, 10:30, 10:30] == pixels[:, 10:30, 10:30]).all()
    outside = np.ones((40, 40), bool)
    outside[10:30, 10:30] = False
    assert (hidden[:, outside] == pixels[:, outside]).all()
    assert (only[:, outside].std(axis=1) == 0).all()
