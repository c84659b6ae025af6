"""Our six pages as a browser is given them: whole and without a model or a Ray, from the records that the other tests make."""

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from btc_ray.dataset.copies import Copies, find_copies
from btc_ray.dataset.table import SCHEMA
from btc_ray.images.batch import pixels_of, prepare_batch
from btc_ray.images.decode import decode
from btc_ray.images.describe import describe
from btc_ray.images.prepare import Preprocess
from btc_ray.phantoms.phantom import LABELS, VIEWS, make_phantom
from btc_ray.reports.audit.conclusion import conclude
from btc_ray.reports.audit.label_doubts import doubtful_labels
from btc_ray.reports.audit.masking import ask_masked
from btc_ray.reports.audit.page import write_audit
from btc_ray.reports.audit.probes import CLEAN, GROUP, PUBLISHED, SENTENCES, TITLES
from btc_ray.reports.audit.record import Found, describe_images, images_table
from btc_ray.reports.audit.sources import class_by_source
from btc_ray.reports.evaluation.page import write_evaluation
from btc_ray.reports.experiments.record import experiment_figures, write_experiments
from btc_ray.reports.shared.bootstrap import wilson
from btc_ray.reports.summary.page import write_summary
from btc_ray.reports.worklist.page import heat_picture, small_picture, write_review
from btc_ray.reports.worklist.record import describe_run
from btc_ray.reports.worklist.sample import with_sample
from btc_ray.reports.worklist.worklist import read_worklist
from btc_ray.training.thresholds import choose_thresholds
from tests.reports.audit.test_conclusion import result
from tests.reports.evaluation import test_record as test_evaluate
from tests.reports.exams import test_page as test_exams
from tests.reports.experiments import test_record as test_experiments
from tests.reports.shared.test_metrics import simulate
from tests.reports.summary import test_page as test_report
from tests.reports.worklist import test_worklist

HOSTILE = "/archive/ward 7/</script><img src=x onerror=alert(1)>.png"
RUN_ID = "feedbeefcafe0042"
LONG = "s3://" + "a-bucket-with-a-name-that-nothing-breaks-" * 3 + "/" + "2026" * 20 + ".zip::" + "slice" * 20 + ".png"
"""Names that a page must neither run nor be stretched by."""


def review(rows: int = 5000, *, sample: int = 0) -> tuple[str, list[dict[str, Any]]]:
    """`review.html` and what it was made from, in reading order. HOSTILE and LONG are on its first screen; the third row has no
    picture, and some have no distance."""
    labels, probabilities, _ = simulate(2000, skill=4)
    distance = np.random.default_rng(0).chisquare(5, len(labels)).astype(np.float32)
    decision = choose_thresholds(probabilities, distance, np.zeros_like(distance), labels)
    bundle = replace(test_evaluate.bundle(), preprocess={"size": 224}, decision=decision)
    table = test_worklist.scores(round(1.1 * rows))  # 5 % are unreadable
    found = read_worklist(table.to_batches(), bundle.classes, most=rows, decision=decision, sample=sample)
    listed = with_sample(found.chosen(), found.sample).to_pylist()
    assert len(listed) >= rows
    pictures = [small_picture(phantom) for phantom in _phantoms()]
    heats = [heat_picture(heat) for heat in np.random.default_rng(0).random((len(pictures), 7, 7), np.float32) ** 4]
    for number, row in enumerate(listed):
        row |= {"picture": pictures[number % len(pictures)], "heat": heats[number % len(heats)], "problem": None}
        row |= {"crop_x": 18, "crop_y": 6, "crop_w": 64, "crop_h": 88}  # of 100 × 100
        row |= {"feature_distance": None} if number % 97 == 5 else {}
    listed[0]["uri"], listed[1]["uri"] = HOSTILE, LONG
    listed[2] |= {"picture": None, "heat": None, "problem": f"{LONG} has gone"}
    state = {"fingerprint": {"inputs": [LONG, "/archive"], "engine": "torch", "precision": "fp32"}, "finished": "2026-11-23"}
    return write_review(describe_run(found, bundle, state, run_id=RUN_ID, shown=len(listed)), listed), listed


def summary() -> str:
    """`summary.html` of a night's run with faults."""
    table = test_report.make_scores(400, bad=9, error=LONG + " is cut short at byte {row}")
    uris = [LONG if row % 40 == 0 else uri for row, uri in enumerate(table["uri"].to_pylist())]
    table = table.set_column(table.schema.get_field_index("uri"), "uri", pa.array(uris))
    session = {
        "path": "ray",
        "seconds": 100.0,
        "images": 400,
        "resources": {"CPU": 32.0, "GPU": 2.0},
        "started": "2026-11-23T02:00:00",
    }
    run = {
        "complete": True,
        "classes": test_report.CLASSES,
        "fingerprint": {"inputs": [LONG, HOSTILE], "model_id": "feedbeefcafe0123", "preprocess_id": "p-224", "precision": "bf16"},
        "sessions": [session],
        "skipped": {"not an image by its name": {"count": 1200, "examples": [LONG, HOSTILE]}},
        "versions": {"torch": "2.14.1"},
        "settings": {"input": [LONG]},
    }  # fmt: skip
    return write_summary(scores=table, run=run, read_image=_read_image)


def evaluation() -> str:
    """`evaluation.html` of two models, the second without an error and under a long name."""
    models, errors = zip(
        test_evaluate.assessed(bad=(4, 8)),
        test_evaluate.assessed("group", name="model-" + "of-november-" * 6, skill=60),
        strict=True,
    )
    rows = [row | ({"uri": LONG} if number % 9 == 0 else {}) for number, row in enumerate(pa.concat_tables(errors).to_pylist())]
    return write_evaluation(test_evaluate.whole(*models), rows, {model["name"]: _read_image for model in models})


def exams() -> str:
    """`exams.html` of three exams: one of two series and a slice that cannot be read, one whose words are hostile, one without a scored
    series."""
    rows = [row | {"uri": LONG} for row in [*test_exams.slices("s-first", 12), *test_exams.slices("s-second", 3, first=12)]]
    rows[1] |= {"status": "unreadable", "error": f"{LONG} is cut short", "label": None, "confidence": None}
    found = [
        test_exams.exam("first", share=0.8, decision="review"),
        test_exams.exam("second", share=0.1, decision="insufficient"),
        test_exams.exam("none", share=None, n_selected=0, series_key=None, decision=None),
    ]
    of = [
        test_exams.series("first", "s-first", selected_by="fallback"),
        test_exams.series("first", "s-local", selected=False, reason="localiser"),
        test_exams.series("second", "s-second", weighting=HOSTILE),
        test_exams.series("none", "s-none", selected=False, reason=LONG),
    ]
    return test_exams.written(found, of, rows, _read_image)


def experiments() -> str:
    """`experiments.html` of a grid of eight, two of which did not finish."""
    names = [f"AdamW {rate:g}, {loss}, {schedule}" for rate in (0.001, 0.01) for loss in ("cross-entropy", "focal loss (γ = 2)")
             for schedule in ("cosine", "one cycle")]  # fmt: skip
    random = np.random.default_rng(0)
    losses = {
        name: [[0.5 / epoch + 0.02 * number + 0.01 * random.random() for epoch in range(1, 7)] for _ in range(3)]
        for number, name in enumerate(names)
    }
    losses[names[4]][1][2] = float("nan")
    losses[names[7]][0] = [float("nan")] * 6
    table = test_experiments.history(losses)
    record = test_experiments.assessed(table)
    record["facts"] |= {"Data": LONG}
    return write_experiments(record, experiment_figures(table, record))


def audit() -> str:
    """`audit.html` of labelled phantoms with copies among the test images, two of them under another label, and a file without an
    image."""
    contents, table = _labelled()
    outcomes = prepare_batch(table.to_pylist(), contents, Preprocess(size=64))
    crops, readable = pixels_of(outcomes), np.flatnonzero(np.array(outcomes["status"]) == "ok")
    assert readable.tolist() == list(range(len(table) - 1))  # the last is the one without an image
    copies = find_copies(crops, outcomes["content_sha256"].to_pylist()[:-1])
    copies = Copies(groups=np.append(copies.groups, copies.groups.max() + 1), pairs=copies.pairs)
    described = [describe(content, decode(content)) for content in contents[:-1]]
    names = ("format", "mode", "brightness", "contrast")
    properties = pa.table({name: [*(getattr(one, name) for one in described), None] for name in names})
    labels = np.searchsorted(LABELS, table["label"].to_pylist())[readable]
    random = np.random.default_rng(0)
    doubts = doubtful_labels(random.dirichlet(np.ones(len(LABELS)), len(labels)), labels)
    found = Found(
        labelled=table,
        outcomes=outcomes,
        properties=properties,
        copies=copies,
        readable=readable,
        planes=random.dirichlet(np.full(len(VIEWS), 0.3), len(labels)),
        doubts=doubts,
    )
    images = images_table(found)
    parts = describe_images(images, copies)
    parts["planes"] |= {"on_phantoms": {"accuracy": wilson(170, 180)}}
    probes = [
        {"key": key, "title": title, "sentence": SENTENCES[key], "results": {
            name: result(right) | {"by_class": dict.fromkeys(LABELS, wilson(right // 4, 100))}
            for name, right in ((PUBLISHED, 310), (CLEAN, 280), (GROUP, 260))
        }}
        for key, title in TITLES.items()
    ]  # fmt: skip
    suspected = int((doubts.suspected >= 0).sum())
    masking = ask_masked(_guess, crops, table["label"].to_pylist()[:-1], LABELS)
    where = ["a web page" if label == "notumor" else LONG for label in table["label"].to_pylist()]
    told = {"images": len(table), "chance": 0.75, "told": [{"key": "border", "title": "Border", "accuracy": wilson(9, 10)}]}
    record: dict[str, Any] = {
        "created": "2026-11-23",
        "data": {"source": LONG, "fingerprint": "0123456789abcdef", "images": len(table), "readable": len(labels), "named_groups": 0},
        **parts,
        "probes": {
            "probes": probes,
            "missing": {},
            "there": {name: {"train": 50_000, "test": 6_000} for name in (PUBLISHED, CLEAN, GROUP)},
            "group_split": {"train": 20, "test": 10, "test_groups": 10},
        },
        "labels": {
            "images": len(labels), "agreement": 0.9, "suspected": suspected, "conflicting": 2, "conflicting_suspected": 1,
            "pairs": [{"label": "glioma", "suspected": "meningioma", "images": suspected}],
        },
        "sources": class_by_source(table["label"].to_pylist(), where) | told,
        "masking": masking | {"model": LONG, "model_id": "feed", "classes": LABELS, "asked": "test images", "chance": 0.25},
        "counts": {"images": len(table), "unreadable": 1, "suspected_labels": suspected, "doubtful_crops": parts["crops"]["doubtful"]},
        "versions": {"torch": "2.14.1"},
        "settings": {"data": LONG},
        "seconds": 12.0,
    }  # fmt: skip
    record["verdict"] = conclude(record)
    assert record["copies"]["test_images_with_copy_in_training"] == 5
    return write_audit(record, images, crop_of=lambda row: crops[row], read_image=lambda row: contents[row["row_id"]], shown=24)


def _labelled() -> tuple[list[bytes], pa.Table]:
    """Files and their listing, as `dataset.table.SCHEMA` has it: every third is a test image."""
    contents = [_png(phantom) for phantom in _phantoms()]
    rows = [
        {"uri": f"/data/{number}.png", "label": LABELS[number % len(LABELS)], "split": "train" if number % 3 else "test"}
        for number in range(len(contents))
    ]
    rows[0]["uri"], rows[4]["uri"] = LONG, HOSTILE
    for number in (1, 2, 4):
        contents.append(_png(_phantoms()[number][:, ::-1]))
        rows.append(rows[number] | {"uri": f"/data/mirrored {number}.png", "split": "test"})
    for number in (5, 7):  # the second under another label
        contents.append(contents[number])
        rows.append(
            rows[number] | {"uri": f"/data/again {number}.png", "split": "test"} | ({"label": "glioma"} if number == 7 else {})
        )
    contents.append(b"")
    rows.append({"uri": LONG + "/empty.png", "label": "notumor", "split": "train"})
    listed = [
        {"row_id": number, "size": len(content)} | row for number, (row, content) in enumerate(zip(rows, contents, strict=True))
    ]
    return contents, pa.Table.from_pylist(listed, schema=SCHEMA)


def _guess(pixels: np.ndarray) -> np.ndarray:
    """A bundle that goes by the brightness of the middle."""
    grey = pixels[:, 16:48, 16:48].mean(axis=(1, 2), keepdims=True).reshape(-1, 1)
    odds = np.exp(-np.abs(grey - np.array([[40.0, 70.0, 100.0, 130.0]])) / 20)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


@functools.cache
def _phantoms() -> tuple[np.ndarray, ...]:
    """Six of each class, uint8 (H, W), no two of one size and shape."""
    return tuple(
        make_phantom(LABELS[number % len(LABELS)], seed=number, size=(160 + 4 * number, 200)).pixels for number in range(24)
    )


def _png(pixels: np.ndarray) -> bytes:
    encoded, data = cv2.imencode(".png", pixels)
    assert encoded
    return data.tobytes()


def _read_image(row: Mapping[str, Any]) -> bytes:
    """A phantom for each row; one of the least confident rows has none."""
    number = sum(map(ord, row["uri"]))
    if number % 17 == 0:
        raise FileNotFoundError(f"{LONG} has gone")
    return _png(_phantoms()[number % 24])
