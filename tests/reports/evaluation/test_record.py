"""From scores and labels to the record and the page: nothing miscounted, nothing fetched, nothing unescaped."""

import copy
import functools
import io
import json
import re
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from btc_ray import NOT_FOR_DIAGNOSIS
from btc_ray.model.bundle import Bundle
from btc_ray.reports.evaluation.page import SHOWN, evaluation_figures, write_evaluation
from btc_ray.reports.evaluation.record import ERRORS_SCHEMA, assess, compare_sets, no_scores
from btc_ray.reports.evaluation.sets import CLEAN, GROUP, NEW, PUBLISHED, Truth, choose_sets, training_overlap
from btc_ray.reports.shared.curves import reaches_corner, reliability_png, roc_lines, roc_png
from btc_ray.reports.shared.metrics import measure
from tests.reports.shared.test_metrics import simulate
from tests.reports.summary.test_page import text_of

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
NAUGHTY = '<script>alert("1")</script>.jpg'


def bundle(split: str | None = "folders", *, classes: tuple[str, ...] = CLASSES, temperature: float = 1.5) -> Bundle:
    return Bundle(
        classes=classes,
        model_id="0123456789abcdef",
        preprocess={},
        preprocess_id="fedc",
        temperature=temperature,
        data={"split": split},
    )


def scores(
    uris: list[str], probabilities: np.ndarray, *, bad: tuple[int, ...] = (), classes: tuple[str, ...] = CLASSES
) -> pa.Table:
    mask = np.isin(np.arange(len(uris)), bad)
    columns: dict[str, Any] = {
        "row_id": np.arange(len(uris)),
        "uri": uris,
        "status": np.where(mask, "unreadable", "ok"),
        "error": [f"cut short at byte {number}" if number in bad else None for number in range(len(uris))],
    }
    columns |= {
        f"prob_{name}": pa.array(probabilities[:, number].astype(np.float32), mask=mask) for number, name in enumerate(classes)
    }
    return pa.table(columns)


def images(count: int = 80, *, skill: float = 2.0) -> tuple[Truth, np.ndarray]:
    """Every second image is a published test image; images come in pairs of copies, every tenth pair across both folders."""
    labels, probabilities, _ = simulate(count, skill=skill, seed=2)
    number = np.arange(count)
    group = number // 4 * 2 + number % 2
    group[number % 20 < 2] = 10_000 + number[number % 20 < 2] // 20
    return (
        Truth(
            uri=np.array([f"/data/{place}.jpg" if place else f"/data/{NAUGHTY}" for place in number], object),
            label=np.array(CLASSES, object)[labels],
            content_sha256=np.array([f"{place:064d}" for place in number], object),
            group=group,
            published_test=number % 2 == 0,
            contradicting=np.zeros(count, bool),
        ),
        probabilities,
    )


@functools.cache
def assessed(
    split: str = "folders", *, name: str = "model", skill: float = 2.0, bad: tuple[int, ...] = ()
) -> tuple[dict[str, Any], pa.Table]:
    truth, probabilities = images(skill=skill)
    record = pa.table(
        {
            "uri": truth.uri.tolist(),
            "content_sha256": truth.content_sha256.tolist(),
            "split": np.where(truth.published_test, "test", "train").tolist(),
            "group": truth.group,
        }
    )
    overlap = training_overlap(truth, record)
    sets, missing = choose_sets(truth, overlap, split, data="DATA", models=["x"])
    table = scores(truth.uri.tolist(), probabilities, bad=bad)
    return assess(truth, sets, missing, table, bundle(split), name=name, overlap=overlap)


def whole(*models: dict[str, Any]) -> dict[str, Any]:
    return {
        "notice": NOT_FOR_DIAGNOSIS,
        "verdict": compare_sets(models),
        "models": [model | {"bundle": "/bundles/x", "run": "run"} for model in models],
        "facts": {"When": "today"},
        "versions": {"python": "3"},
        "settings": {"data": "DATA"},
    }


def read_image(row: Mapping[str, Any]) -> bytes:
    return cv2.imencode(".jpg", np.full((64, 64), 100, np.uint8))[1].tobytes()


def test_the_scores_are_laid_beside_the_labels_by_name_and_not_by_place() -> None:
    truth, probabilities = images()
    order = np.random.default_rng(0).permutation(len(truth.uri))
    sets, missing = choose_sets(truth, None, None, data="DATA", models=[])
    one, _ = assess(truth, sets, missing, scores(truth.uri.tolist(), probabilities), bundle(None), name="m")
    shuffled = scores(truth.uri[order].tolist(), probabilities[order])
    two, _ = assess(truth, sets, missing, shuffled, bundle(None), name="m")
    assert one == two
    expected = (np.array(CLASSES, object)[probabilities.argmax(axis=1)] == truth.label)[truth.published_test].mean()
    assert one["sets"][0]["metrics"]["accuracy"]["value"] == pytest.approx(expected)


def test_an_image_without_a_score_is_counted_with_its_cause_and_not_as_an_error() -> None:
    record, errors = assessed(bad=(4, 8))
    published = record["sets"][0]
    assert (published["key"], published["images"], published["not_ok"], published["metrics"]["images"]) == (PUBLISHED, 40, 2, 38)
    assert record["not_ok"][0] | {"examples": 0} == {
        "status": "unreadable", "cause": "cut short at byte #", "images": 2, "examples": 0,
    }  # fmt: skip
    assert not {"/data/4.jpg", "/data/8.jpg"} & set(errors["uri"].to_pylist())


def test_a_label_that_the_model_does_not_know_is_counted_and_not_measured() -> None:
    truth, probabilities = images()
    known = probabilities[:, :3] / probabilities[:, :3].sum(axis=1, keepdims=True)
    sets, missing = choose_sets(truth, None, None, data="DATA", models=[])
    table = scores(truth.uri.tolist(), known, classes=CLASSES[:3])
    record, errors = assess(truth, sets, missing, table, bundle(None, classes=CLASSES[:3]), name="m")
    unknown = int((truth.label[truth.published_test] == "pituitary").sum())
    assert unknown > 0
    assert record["sets"][0]["labels_unknown_to_the_model"] == {"pituitary": unknown}
    assert record["sets"][0]["metrics"]["images"] == 40 - unknown
    assert "pituitary" not in errors["label"].to_pylist()


def test_the_errors_are_those_of_the_confusion_matrix_the_most_confident_first() -> None:
    record, errors = assessed()
    assert errors.schema == ERRORS_SCHEMA
    for one in record["sets"]:
        counts = np.array(one["metrics"]["confusion"])
        assert sum(one["key"] in row for row in errors["sets"].to_pylist()) == counts.sum() - np.trace(counts)
    confidence = errors["confidence"].to_pylist()
    assert confidence == sorted(confidence, reverse=True)
    assert any(errors["copy_seen"].to_pylist())


def test_a_model_that_nothing_is_asked_of_has_reasons_and_no_numbers() -> None:
    truth, _ = images()
    record, errors = assess(truth, [], [], no_scores(bundle()), bundle(), name="m")
    assert (record["sets"], record["scored"], len(errors)) == ([], 0, 0)
    assert "no number" in compare_sets([record])["headline"]


def test_the_verdict_says_that_the_published_split_measures_memory() -> None:
    record, _ = assessed()
    found = compare_sets([record])
    share = record["sets"][1]["metrics"]["accuracy"]["value"]
    assert found["headline"].startswith(f"{share:.1%} right on")
    assert "no copy in training" in found["headline"]
    assert re.search(r"measures memory as well as skill: \d+ of its 40 test images", found["text"])


def test_the_verdict_believes_the_group_split_before_the_published_one() -> None:
    folders, _ = assessed()
    group, _ = assessed("group", name="other")
    found = compare_sets([folders, group])
    assert "groups were held out" in found["headline"]
    assert "measures memory" in found["text"]


def test_the_verdict_admits_what_is_not_recorded() -> None:
    truth, probabilities = images()
    sets, missing = choose_sets(truth, None, None, data="DATA", models=[])
    record, _ = assess(truth, sets, missing, scores(truth.uri.tolist(), probabilities), bundle(None), name="m")
    assert "unknown" in compare_sets([record])["text"]


def test_the_verdict_names_the_classes_that_its_number_does_not_measure() -> None:
    record, _ = assessed()
    without = copy.deepcopy(record)
    without["sets"][1]["metrics"]["absent_classes"] = ["notumor"]
    assert "no images of" not in compare_sets([record])["text"]
    assert "no images of notumor among them" in compare_sets([without])["text"]


def test_the_page_shows_each_number_with_what_it_counts_and_why_one_is_missing() -> None:
    record, errors = assessed(bad=(4,))
    page = write_evaluation(whole(record), errors.to_pylist(), {"model": read_image})
    said = text_of(page)
    for one in record["sets"]:
        assert f"{100 * one['metrics']['accuracy']['value']:.2f}%" in said
        for remark in one["remarks"]:
            assert remark in said
    assert "Not to be had: the model was trained with --split folders." in said
    assert "btc-ray retrain --data DATA --split group --output BUNDLE" in said
    assert "cut short at byte #" in said
    assert said.count(NOT_FOR_DIAGNOSIS) == 2
    assert page.count('src="data:image/jpeg') == min(SHOWN, len(errors))


def test_the_page_fetches_nothing_and_escapes_names() -> None:
    record, errors = assessed()
    rows = errors.to_pylist()
    rows[0]["uri"] = f"/data/{NAUGHTY}"
    page = write_evaluation(whole(record | {"name": "model"}), rows, {})
    assert NAUGHTY not in page
    assert "alert(" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "url(" not in page
    assert "<script" not in page


def test_an_image_that_has_gone_is_a_placeholder_with_the_reason() -> None:
    def gone(row: Mapping[str, Any]) -> bytes:
        raise FileNotFoundError("it has gone")

    record, errors = assessed()
    assert "could not be shown: <bdi>it has gone</bdi>" in write_evaluation(whole(record), errors.to_pylist(), {"model": gone})


def test_the_record_is_strict_json_and_the_page_is_made_from_what_was_written() -> None:
    record, errors = assessed()
    text = json.dumps(whole(record), allow_nan=False)
    assert write_evaluation(json.loads(text), errors.to_pylist(), {}) == write_evaluation(whole(record), errors.to_pylist(), {})


def test_a_perfect_model_and_an_empty_set_have_a_page_too() -> None:
    record, errors = assessed(skill=60)
    assert len(errors) == 0
    page = text_of(write_evaluation(whole(record), [], {}))
    assert "100.00%" in page
    assert "Wilson's interval over the" in page
    empty, errors = assessed(bad=tuple(range(80)))
    page = text_of(write_evaluation(whole(empty), errors.to_pylist(), {}))
    assert "no number to be had" in page
    assert evaluation_figures(whole(empty)) == {}


@pytest.mark.slow
def test_every_set_has_its_figures() -> None:
    folders, _ = assessed()
    group, _ = assessed("group", name="a/b: c")
    found = evaluation_figures(whole(folders, group))
    ends = [f"{key.replace('_', '-')}-{kind}.png" for key in (PUBLISHED, CLEAN) for kind in ("confusion", "roc", "reliability")]
    wanted = {f"1-model-{end}" for end in ends} | {f"2-a-b-c-{GROUP}-{kind}.png" for kind in ("confusion", "roc", "reliability")}
    assert set(found) == wanted
    for picture in found.values():
        assert Image.open(io.BytesIO(picture)).format == "PNG"


def test_a_curve_is_drawn_for_each_class_that_has_one() -> None:
    labels, probabilities, groups = simulate(90, skill=6)
    record = measure(labels, probabilities, groups, CLASSES, resamples=20)
    lines = roc_lines(record["by_class"])
    assert [line["name"] for line in lines] == list(CLASSES)
    assert all(line["points"].startswith("0.00,100.00") and line["points"].endswith("100.00,0.00") for line in lines)
    assert reaches_corner(record["by_class"])
    wide, narrow = (
        Image.open(io.BytesIO(roc_png(rows))).width
        for rows in (record["by_class"], [row | {"roc": None} for row in record["by_class"]])
    )
    assert wide > 1.8 * narrow
    assert Image.open(io.BytesIO(reliability_png(record["calibration"]))).format == "PNG"


def test_the_kinds_of_sets_are_told_apart_on_the_page() -> None:
    """An external set stands first, and the three others say why they are not to be had."""
    truth, probabilities = images()
    record = pa.table({"uri": ["z"], "content_sha256": ["z"], "split": ["train"], "group": pa.array([1], pa.int64())})
    overlap = training_overlap(truth, record)
    sets, missing = choose_sets(truth, overlap, "group", data="DATA", models=[])
    assert [one.key for one in sets] == [NEW]
    found, errors = assess(
        truth, sets, missing, scores(truth.uri.tolist(), probabilities), bundle("group"), name="m", overlap=overlap
    )
    page = text_of(write_evaluation(whole(found), errors.to_pylist(), {}))
    assert page.index("Images new to the model") < page.index("Published split")
    assert page.count("they are new to it") == 3
