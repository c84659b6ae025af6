"""What a reader sees first, from any number of rows; and whether a run looks like the images the model was validated on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from btc_ray.model.activation import activation_maps
from btc_ray.model.bundle import read_bundle
from btc_ray.model.engines.folded import folded_network
from btc_ray.model.network import build_network
from btc_ray.phantoms.phantom import make_phantom
from btc_ray.reports.shared.tally import folders
from btc_ray.reports.worklist.drift import population_stability
from btc_ray.reports.worklist.page import heat_picture, write_review
from btc_ray.reports.worklist.record import describe_run
from btc_ray.reports.worklist.worklist import TIERS, Worklist, WorklistError, healthy_class, read_worklist
from btc_ray.storage import Place

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")


def scores(count: int, *, decided: bool = True, seed: int = 0) -> pa.Table:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(4, 0.2), count).astype(np.float32)
    distance = random.chisquare(5, count).astype(np.float32)
    confidence, best = probabilities.max(axis=1), probabilities.argmax(axis=1)
    decision = np.where(distance > 15, "reject", np.where(confidence < 0.8, "review", "accept")).astype(object)
    bad = random.random(count) < 0.05
    columns = {
        "row_id": np.arange(count),
        "uri": [f"/archive/{number % 7}/{number}.png" for number in range(count)],
        "status": np.where(bad, "unreadable", "ok"),
        "error": np.where(bad, "cut short", None),
        **{name: pa.array(np.full(count, 100), pa.int32()) for name in ("width", "height")},
        **{f"crop_{name}": pa.array(np.full(count, 10), pa.int32()) for name in "xywh"},
        "crop_status": ["cropped"] * count,
        "content_sha256": [f"{number:064x}" for number in range(count)],
        "label": pa.array(np.array(CLASSES, object)[best], mask=bad),
        "confidence": pa.array(confidence, mask=bad),
        **{f"prob_{name}": pa.array(probabilities[:, number], mask=bad) for number, name in enumerate(CLASSES)},
    }
    if decided:
        columns |= {
            "feature_distance": pa.array(distance, mask=bad),
            "energy": pa.array(-distance, mask=bad),
            "decision": pa.array(decision, pa.string(), mask=bad),
        }
    return pa.table(columns)


def worklist(table: pa.Table, *, most: int = 100, size: int = 65_536, sample: int = 0) -> Worklist:
    deciles = {"distance_deciles": list(range(1, 10))}
    return read_worklist(table.to_batches(size), CLASSES, most=most, decision=deciles, sample=sample)


def test_suspected_tumours_come_first_and_the_most_probable_of_them_before_the_others() -> None:
    chosen = worklist(scores(2000)).chosen()
    tiers = chosen["tier"].to_pylist()
    assert tiers == sorted(tiers, key=TIERS.index)
    assert len(chosen) == 100
    suspected = chosen.slice(0, tiers.count("suspected"))
    suspicion = suspected["suspicion"].to_numpy()
    assert (np.diff(suspicion) <= 0).all()
    assert set(suspected["decision"].to_pylist()) == {"accept"}
    assert "notumor" not in suspected["label"].to_pylist()
    np.testing.assert_allclose(suspicion, 1 - suspected["prob_notumor"].to_numpy(), atol=1e-6)
    assert set(chosen.filter(pa.array(np.array(tiers) == "other"))["label"].to_pylist()) == {"notumor"}


def test_the_order_of_the_batches_changes_nothing() -> None:
    table = scores(3000)
    shuffled = table.take(np.random.default_rng(1).permutation(3000))
    assert worklist(table).chosen().equals(worklist(shuffled, size=100).chosen())


def test_every_row_is_counted_and_the_most_urgent_of_each_kind_are_kept() -> None:
    table = scores(3000)
    found = worklist(table, most=10, size=500)
    assert found.rows == 3000
    assert sum(found.tiers.values()) + found.status["unreadable"] == 3000
    assert sum(found.folders.values()) == found.status["ok"]
    assert found.causes.counts == {("unreadable", "cut short"): found.status["unreadable"]}
    assert found.confidence.sum() == found.distance.sum() == found.status["ok"]
    assert len(found.chosen()) == 10
    everything = worklist(table, most=5000).chosen()
    assert len(everything) == found.status["ok"]


def test_a_table_without_decisions_is_sorted_by_confidence() -> None:
    chosen = worklist(scores(500, decided=False), most=1000).chosen()
    uncertain = np.array(chosen["tier"].to_pylist()) == "uncertain"
    assert (chosen["confidence"].to_numpy()[uncertain] < 0.9).all()
    assert "strange" not in chosen["tier"].to_pylist()


def test_tumours_that_are_not_accepted_are_counted_all_the_same(model: Path) -> None:
    table = scores(500)
    table = table.set_column(table.schema.get_field_index("decision"), "decision", pa.array(["review"] * 500))
    record = describe_run(worklist(table), read_bundle(Place(str(model))), {"fingerprint": {}}, run_id="0", shown=100)
    ill = sum(count for name, count in record["labels"] if name != "notumor")
    assert record["headline"] == f"A tumour is the likeliest answer for {ill} of {record['scored']} images"
    assert any("No answer is accepted" in warning for warning in record["warnings"])
    assert sum(folder["suspected"] for folder in record["folders"]) == ill


def test_without_a_healthy_class_nothing_is_called_a_tumour() -> None:
    names = {f"prob_{name}": f"prob_grade{number}" for number, name in enumerate(CLASSES)}
    table = scores(300)
    table = table.rename_columns([names.get(name, name) for name in table.column_names])
    found = read_worklist(table.to_batches(), [f"grade{number}" for number in range(4)], most=400, decision={})
    assert np.isnan(found.chosen()["suspicion"].to_numpy()).all()


def test_a_run_without_scored_images_has_a_worklist_without_rows() -> None:
    table = scores(10)
    bad = table.set_column(table.schema.get_field_index("status"), "status", pa.array(["failed"] * 10))
    empty, full = worklist(bad).chosen(), worklist(table).chosen()
    assert len(empty) == 0
    assert empty.schema.names == full.schema.names
    assert empty.schema.field("suspicion").type == full.schema.field("suspicion").type


def test_scores_of_other_classes_are_refused() -> None:
    with pytest.raises(WorklistError, match="prob_fracture"):
        read_worklist(scores(5).to_batches(), ("fracture",), most=5, decision={})


@pytest.mark.parametrize(
    ("classes", "expected"),
    [(CLASSES, "notumor"), (("No tumor", "tumor"), "No tumor"), (("a", "no_tumour"), "no_tumour"), (("a", "b"), None)],
)
def test_the_class_of_healthy_images_is_known_by_its_name(classes: tuple[str, ...], expected: str | None) -> None:
    assert healthy_class(classes) == expected


def test_an_image_stands_in_a_folder_or_in_an_archive() -> None:
    uris = ["/a/b/c.png", "s3://x/y.zip::in/z.png", "s3://x/y.zip::z.png", "C:\\scans\\z.png"]
    assert folders(pa.array(uris)).to_pylist() == ["/a/b", "s3://x/y.zip::in", "s3://x/y.zip", "C:\\scans"]


def test_equal_histograms_show_no_drift_and_moved_ones_do() -> None:
    assert population_stability([100] * 10, [1000] * 10)["verdict"] == "none"
    assert population_stability([100] * 10, [0] * 9 + [1000])["verdict"] == "large"
    assert population_stability([100] * 10, [60] * 5 + [140] * 5)["verdict"] == "some"
    assert population_stability([0] * 10, [1] * 10)["verdict"] == "unknown"


def test_few_images_that_differ_by_chance_are_no_drift() -> None:
    random = np.random.default_rng(0)
    verdicts = [
        population_stability([20] * 10, np.bincount(random.integers(10, size=30), minlength=10))["verdict"] for _ in range(200)
    ]
    assert verdicts.count("none") > 180


def test_the_activation_map_is_what_gradients_give() -> None:
    """Grad-CAM by its definition: the mean gradient of the logit weighs each map of the last convolution."""
    torch.manual_seed(0)
    plain = build_network(4).eval()
    pixels = np.stack([make_phantom("meningioma", seed=seed, size=(128, 128)).pixels for seed in range(3)])
    folded = folded_network(plain.state_dict(), mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), device="cpu")
    found = activation_maps(folded, pixels, np.array([0, 1, 2]))
    kept: list[torch.Tensor] = []
    plain.layer4.register_forward_hook(lambda module, inputs, output: kept.append(output))
    grey = ((torch.from_numpy(pixels).unsqueeze(1).float() / 255 - 0.5) / 0.2).repeat(1, 3, 1, 1)
    logits = plain(grey)
    (gradient,) = torch.autograd.grad(sum(logits[place, place] for place in range(3)), kept[0])
    expected = (gradient.mean(dim=(2, 3), keepdim=True) * kept[0]).sum(dim=1).relu()
    expected = expected / expected.amax(dim=(1, 2), keepdim=True).clamp_min(1e-30)
    assert found.shape == (3, 4, 4)
    np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-3)
    assert heat_picture(np.zeros((4, 4), np.float32)) is None


def test_a_file_name_cannot_leave_the_script_it_stands_in(model: Path) -> None:
    table = scores(3).to_pylist()
    for row in table:
        row |= {
            "suspicion": 0.5,
            "content_sha256": "0",
            "tier": "other",
            "picture": None,
            "heat": None,
            "problem": "gone",
            "uri": "</script><b>&.png",
        }
    found = worklist(scores(30))
    record = describe_run(found, read_bundle(Place(str(model))), {"fingerprint": {}}, run_id="0", shown=3)
    page = write_review(record, table)
    assert "</script><b>" not in page
    assert "\\u003c/script\\u003e\\u003cb\\u003e\\u0026.png" in page
    assert "Research use only" in page


def test_the_thresholds_of_a_bundle_of_before_make_a_page_without_what_it_does_not_record(model: Path) -> None:
    validation = {"images": 40, "accepted": 30, "wrong_among_accepted": 0, "wrong": 2}
    decision = {
        "accept_distance": 15.0,
        "reject_distance": 30.0,
        "accept_confidence": 0.9,
        "reference_id": "0",
        "validation": validation,
    }
    bundle = replace(read_bundle(Place(str(model))), decision=decision)
    record = describe_run(worklist(scores(30)), bundle, {"fingerprint": {}}, run_id="0", shown=3)
    assert record["decision"]["risk_coverage"] == []
    assert "confidence at least 0.900" in write_review(record, [])
