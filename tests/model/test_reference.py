"""How far an image is from what the model learned from, and what is done with its label."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save
from scipy.spatial.distance import mahalanobis

from btc_ray.model.bundle import BundleError, read_arrays, read_bundle, read_reference
from btc_ray.model.engines.choose import choose, open_engine
from btc_ray.model.engines.engine import Choice
from btc_ray.model.engines.folding import STAGES
from btc_ray.model.reference import Gaussians, Reference, decide, energy, in_words, reference_id, thresholds_id
from btc_ray.phantoms.phantom import make_phantom
from btc_ray.storage import Place
from btc_ray.training.thresholds import choose_thresholds, fit_gaussians, fit_reference, risk_coverage

THRESHOLDS = {"accept_distance": 20.0, "reject_distance": 30.0, "accept_confidence": 0.8, "reference_id": "0" * 16}


def clouds(count: int = 600, width: int = 8) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = np.arange(count) % 3
    stretched = random.normal(size=(count, width)) * np.linspace(0.2, 3, width)
    return (stretched + 10 * np.eye(3, width)[labels]).astype(np.float32), labels


def test_the_distance_is_mahalanobis_to_the_nearest_class() -> None:
    features, labels = clouds()
    reference = fit_gaussians(features, labels)
    assert reference is not None
    asked = np.random.default_rng(1).normal(size=(20, 8)).astype(np.float32) * 10
    expected = [min(mahalanobis(row, mean, reference.precision) for mean in reference.means) for row in asked]
    np.testing.assert_allclose(reference.distance(asked), expected, rtol=1e-4)
    assert reference.distance(asked[:0]).shape == (0,)
    assert reference.distance(reference.means).max() < 1e-3


def test_few_images_still_give_a_covariance_that_can_be_inverted() -> None:
    features, labels = clouds(12, width=64)
    reference = fit_gaussians(features, labels)
    assert reference is not None
    distance = reference.distance(features)
    assert np.isfinite(distance).all()
    assert distance.max() < reference.distance(features + 50).min()


def test_features_without_spread_give_no_reference() -> None:
    assert fit_gaussians(np.eye(4, dtype=np.float32), np.arange(4)) is None
    assert fit_gaussians(np.full((8, 4), np.nan, np.float32), np.arange(8) % 2) is None
    features, labels = clouds()
    features[:, :3] = 1  # one stage of three
    assert fit_reference(features, labels, features, widths=(3, 2, 3)) is None


WIDTHS = (1, 2, 5)


def test_each_stage_counts_in_its_own_typical_distances() -> None:
    features, labels = clouds()
    held_out = clouds(90)[0] * 1.1
    reference = fit_reference(features, labels, held_out, widths=WIDTHS)
    assert reference is not None
    assert reference.of_stages
    stages = [features[:, :1], features[:, 1:3], features[:, 3:]]
    asked = [held_out[:, :1], held_out[:, 1:3], held_out[:, 3:]]
    alone = [fit_gaussians(stage, labels) for stage in stages]
    distances = [one.distance(part) for one, part in zip(alone, asked, strict=True) if one is not None]
    expected = np.mean([one / np.median(one) for one in distances], axis=0)
    np.testing.assert_allclose(reference.distance(held_out), expected, rtol=1e-5)
    assert reference.distance(held_out[:0]).shape == (0,)


def test_a_stage_that_alone_is_strange_makes_the_image_strange() -> None:
    features, labels = clouds()
    reference = fit_reference(features, labels, features, widths=WIDTHS)
    assert reference is not None
    odd = features.copy()
    odd[:, 0] += 40
    assert reference.distance(odd).min() > reference.distance(features).max()
    np.testing.assert_array_equal(reference.distances(odd)[2], reference.distances(features)[2])


def test_where_nothing_is_held_out_the_training_images_are_typical() -> None:
    features, labels = clouds()
    found = [fit_reference(features, labels, held_out, widths=WIDTHS) for held_out in (features[:0], features)]
    assert found[0] is not None
    assert found[1] is not None
    np.testing.assert_array_equal(found[0].typical, found[1].typical)


def test_references_of_all_stages_and_those_of_before_are_stored_and_read() -> None:
    features = np.random.default_rng(0).normal(size=(60, sum(STAGES))).astype(np.float32)
    reference = fit_reference(features, np.arange(60) % 4, features[:20])
    assert reference is not None
    again = Reference.from_bytes(reference.to_bytes())
    np.testing.assert_array_equal(again.distance(features), reference.distance(features))
    last = reference.gaussians[-1]
    before = Reference.from_bytes(save({"means": last.means, "precision": last.precision}))
    assert not before.of_stages
    np.testing.assert_array_equal(before.distance(features[:, -512:]), last.distance(features[:, -512:]))
    assert Reference.from_bytes(before.to_bytes()).to_bytes() == before.to_bytes()


def test_energy_is_low_where_a_class_is_sure() -> None:
    found = energy(np.float32([[10, 0, 0], [1, 1, 1], [0, 0, 0]]))
    np.testing.assert_allclose(found, [-10.0000908, -1 - np.log(3), -np.log(3)], rtol=1e-5)
    assert energy(np.empty((0, 3), np.float32)).shape == (0,)


@pytest.mark.parametrize(
    ("confidence", "distance", "expected"),
    [
        (0.9, 10, "accept"),
        (0.8, 20, "accept"),
        (0.79, 10, "review"),
        (0.99, 21, "review"),
        (0.99, 31, "reject"),
        (0.3, 31, "reject"),
    ],
)
def test_a_label_is_taken_only_where_it_is_sure_and_the_image_familiar(confidence: float, distance: float, expected: str) -> None:
    assert decide(np.array([confidence]), np.array([distance]), np.array([0.9]), THRESHOLDS).tolist() == [expected]


@pytest.mark.parametrize(("surround", "expected"), [(0.1, "accept"), (0.2, "review"), (np.nan, "review")])
def test_a_picture_without_air_around_it_is_for_a_person(surround: float, expected: str) -> None:
    known = THRESHOLDS | {"accept_surround": 0.15}
    assert decide(np.array([0.99]), np.array([10.0]), np.array([surround]), known).tolist() == [expected]


def test_thresholds_keep_most_validation_images_and_few_errors() -> None:
    random = np.random.default_rng(0)
    confidence = random.uniform(0.4, 1, 20_000)
    labels = (random.random(20_000) > confidence).astype(int)  # right as often as it says
    probabilities = np.column_stack([confidence, 1 - confidence])
    probabilities[confidence < 0.5] = [0.51, 0.49]
    around = random.uniform(0, 0.2, 20_000)
    found = choose_thresholds(probabilities, random.chisquare(5, 20_000), around, labels, target=0.05)
    assert (around <= found["accept_surround"]).mean() == pytest.approx(0.99, abs=0.001)
    assert found["validation"]["wrong_among_accepted"] <= 0.05 * found["validation"]["accepted"]
    assert found["validation"]["accepted"] > 200
    assert 0.9 < found["accept_confidence"] <= 1
    assert found["guarantee"]["upper_bound"] <= found["target_risk"] == 0.05
    assert found["accept_distance"] < found["reject_distance"]
    accuracies = [row["accuracy"] for row in found["risk_coverage"]]
    assert accuracies == sorted(accuracies)
    assert sum(found["confidence"]) == 20_000
    assert choose_thresholds(probabilities[:0], np.empty(0), np.empty(0), labels[:0]) == {}


@pytest.mark.parametrize(
    ("confidence", "right"),
    [
        (np.full(200, 0.9), np.zeros(200, bool)),  # always wrong
        (np.full(50, 0.9), np.ones(50, bool)),  # too few to tell 1 % of
        (np.repeat([0.9, 0.4], 100), np.arange(200) >= 2),  # at 0.9 two of a hundred are wrong, and 0.4 is no answer to take
    ],
)
def test_nothing_is_accepted_that_validation_does_not_justify(confidence: np.ndarray, right: np.ndarray) -> None:
    probabilities = np.column_stack([confidence, *(1 - confidence)[None].repeat(2, 0) / 2])
    found = choose_thresholds(probabilities, np.ones(len(right)), np.zeros(len(right)), np.where(right, 0, 1))
    assert found["validation"]["accepted"] == 0
    assert found["accept_confidence"] > 1


def said(**changed: object) -> dict[str, object]:
    counts = {"images": 100, "accepted": 50, "wrong_among_accepted": 0, "wrong": 3}
    return {**THRESHOLDS, "validation": counts, **changed}


GUARANTEE = {
    "holds": True, "target_risk": 0.01, "level": 0.95, "upper_bound": 0.009, "accepted": 5000, "wrong": 20, "units": 1200,
    "unit": "patient", "answers": "out-of-fold", "reason": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        (said(), r"^accept: confidence at least 0\.800 and feature distance at most 20\. reject"),
        (said(accept_confidence=1.01), r"^accept: nothing, since the validation images were too few or too many of them wrong"),
        (
            said(guarantee=GUARANTEE),
            r"at most 1\.00% are wrong, with 95% confidence, .*: 20 of 5,000 out-of-fold answers in 1,200 units",
        ),
        (said(guarantee=GUARANTEE | {"reason": "too few"}, accept_confidence=1.01), r"^accept: nothing: too few\. reject"),
    ],
)
def test_a_decision_says_what_is_known_of_its_errors_and_older_bundles_read_as_before(
    decision: dict[str, object], words: str
) -> None:
    assert re.search(words, in_words(decision))


def test_risk_coverage_keeps_the_most_confident() -> None:
    rows = risk_coverage(np.linspace(0, 1, 100), np.arange(100) >= 50)
    assert [(row["coverage"], row["images"], row["accuracy"]) for row in rows if row["coverage"] in (1.0, 0.8, 0.5)] == [
        (1.0, 100, 0.5),
        (0.8, 80, 0.625),
        (0.5, 50, 1.0),
    ]


def test_other_thresholds_are_another_decision() -> None:
    assert thresholds_id({}) is None
    others = [THRESHOLDS | {"accept_confidence": 0.81}, THRESHOLDS | {"accept_surround": 0.15}, THRESHOLDS]
    assert len(set(map(thresholds_id, others))) == 3


def test_a_reference_that_is_not_the_bundles_is_refused(model: Path, tmp_path: Path) -> None:
    bundle = replace(read_bundle(Place(str(model))), decision=THRESHOLDS)
    with pytest.raises(BundleError, match=r"has no reference\.safetensors"):
        read_reference(Place(str(tmp_path)), bundle)
    (tmp_path / "reference.safetensors").write_bytes(save({"means": np.eye(3), "precision": np.eye(3)}))
    with pytest.raises(BundleError, match="damaged or belongs to another bundle"):
        read_reference(Place(str(tmp_path)), bundle)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layer2.means": np.zeros((4, 512), np.float32)}, "not those of 4 classes"),
        ({"layer3.precision": np.full((256, 256), np.nan, np.float32)}, "not finite"),
        ({"typical": np.zeros(4, np.float32)}, "not above 0"),
        ({"typical": np.ones(3, np.float32)}, "not those of 4 classes"),
    ],
)
def test_a_reference_of_other_shapes_or_values_is_refused(
    model: Path, tmp_path: Path, change: dict[str, np.ndarray], words: str
) -> None:
    arrays = {f"layer{number}.means": np.zeros((4, width), np.float32) for number, width in enumerate(STAGES, start=1)}
    arrays |= {f"layer{number}.precision": np.eye(width, dtype=np.float32) for number, width in enumerate(STAGES, start=1)}
    data = save(arrays | {"typical": np.ones(4, np.float32)} | change)
    (tmp_path / "reference.safetensors").write_bytes(data)
    bundle = replace(read_bundle(Place(str(model))), decision=THRESHOLDS | {"reference_id": reference_id(data)})
    with pytest.raises(BundleError, match=words):
        read_reference(Place(str(tmp_path)), bundle)


def test_both_engines_measure_distances_in_all_stages_and_answer_the_same_with_a_reference_of_before(model: Path) -> None:
    pytest.importorskip("openvino")
    from btc_ray.model.engines.openvino_engine import OpenVINOEngine
    from btc_ray.model.engines.torch_engine import TorchEngine

    bundle = read_bundle(Place(str(model)))
    state, kinds = read_arrays(Place(str(model)), bundle), (("torch", TorchEngine), ("openvino", OpenVINOEngine))
    pixels = np.stack([make_phantom("glioma", seed=seed, size=(96, 96)).pixels[16:80, 16:80] for seed in range(6)])
    random = np.random.default_rng(0)
    gaussians = tuple(
        Gaussians(means=random.random((4, width)).astype(np.float32), precision=np.eye(width, dtype=np.float32))
        for width in STAGES
    )
    references = {
        "stages": Reference(gaussians=gaussians, typical=np.arange(1, 5, dtype=np.float32)),
        "before": Reference(gaussians=gaussians[-1:], typical=np.ones(1, np.float32)),
    }
    found = {
        (name, kind): make(bundle, state, Choice(engine=name, device="cpu", precision="fp32"), reference=reference).answers(
            pixels
        )
        for name, make in kinds
        for kind, reference in references.items()
    }
    for kind in references:
        for first, second in zip(found["torch", kind], found["openvino", kind], strict=True):
            np.testing.assert_allclose(first, second, atol=1e-3, rtol=1e-3)
    np.testing.assert_allclose(found["torch", "stages"].probabilities, found["torch", "before"].probabilities, atol=1e-6)
    assert np.abs(found["torch", "stages"].distance - found["torch", "before"].distance).min() > 0.01
    empty = TorchEngine(bundle, state, Choice(engine="torch", device="cpu", precision="fp32"), reference=references["stages"])
    assert empty.answers(pixels[:0]).distance.shape == (0,)


def test_both_engines_answer_alike(model: Path) -> None:
    pytest.importorskip("openvino")
    bundle, pixels = (
        read_bundle(Place(str(model))),
        np.stack([make_phantom("glioma", seed=seed, size=(96, 96)).pixels[16:80, 16:80] for seed in range(6)]),
    )
    weight = read_arrays(Place(str(model)), bundle)["fc.weight"]
    found = [
        open_engine(Place(str(model)), choose(engine=name, device="cpu", precision="fp32")).answers(pixels)
        for name in ("torch", "openvino")
    ]
    assert weight.shape == (len(bundle.classes), 512)
    for first, second in zip(*found, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-3, rtol=1e-3)
    assert np.isnan(found[0].distance).all()  # a bundle without thresholds
