"""The summary page: true counts, bounded size, everything escaped, nothing fetched, whatever the table holds."""

import re
import time
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from btc_ray import NOT_FOR_DIAGNOSIS
from btc_ray.reports.shared.tally import cause
from btc_ray.reports.summary.page import CAUSES_SHOWN, outcome, write_summary

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")


def make_scores(
    rows: int, *, bad: int = 0, classes: tuple[str, ...] = CLASSES, error: str = "cut short at byte {row}"
) -> pa.Table:
    """`rows` rows in the columns of the contract, of which the first `bad` are unreadable."""
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet(np.full(len(classes), 0.4), rows).astype(np.float32)
    ok = np.arange(rows) >= bad
    missing = ~ok
    columns: dict[str, Any] = {
        "row_id": pa.array(np.arange(rows), pa.int64()),
        "uri": pa.array([f"archive.zip::slices/im{row:07d}.jpg" for row in range(rows)], pa.string()),
        "status": pa.array(np.where(ok, "ok", "unreadable").tolist(), pa.string()),
        "error": pa.array([None if fine else error.format(row=row) for row, fine in enumerate(ok)], pa.string()),
        "width": pa.array(np.full(rows, 64), pa.int32(), mask=missing),
        "height": pa.array(np.full(rows, 64), pa.int32(), mask=missing),
    }
    columns |= {f"crop_{side}": pa.array(np.full(rows, 8), pa.int32(), mask=missing) for side in "xywh"}
    columns |= {
        "crop_status": pa.array(
            [f"full_frame: only {row % 100}.5% stands out" if row % 3 else "cropped" for row in range(rows)], mask=missing
        ),
        "label": pa.array(np.array(classes, object)[probabilities.argmax(1)], pa.string(), mask=missing),
        "confidence": pa.array(probabilities.max(1), pa.float32(), mask=missing),
    }
    columns |= {f"prob_{name}": pa.array(probabilities[:, n], pa.float32(), mask=missing) for n, name in enumerate(classes)}
    columns |= {
        name: pa.array(["0123456789abcdef"] * rows, pa.string()) for name in ("content_sha256", "model_id", "preprocess_id")
    }
    return pa.table(columns)


def read_image(row: Mapping[str, Any]) -> bytes:
    return cv2.imencode(".jpg", np.full((64, 64), 100, np.uint8))[1].tobytes()


def text_of(page: str) -> str:
    """What a reader sees, in one line."""
    found: list[str] = []

    class Reader(HTMLParser):
        hidden = False

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.hidden = tag in ("style", "title")

        def handle_data(self, data: str) -> None:
            if not self.hidden:
                found.append(data)

    Reader().feed(page)
    return " ".join(" ".join(found).split())


def sheets(page: str) -> list[str]:
    return re.findall(r'title="(archive.zip::[^"]+)"><bdi>', page)


@pytest.mark.parametrize(
    ("images", "ok", "words"),
    [
        (1311, 1311, "1,311 images, all scored"),
        (1311, 1299, "12 of 1,311 images could not be scored"),
        (1311, 0, "None of 1,311 images could be scored"),
        (1, 1, "1 image, scored"),
        (1, 0, "The only image could not be scored"),
        (0, 0, "No images were found in the inputs"),
    ],
)
def test_the_verdict_is_one_line_in_plain_words(images: int, ok: int, words: str) -> None:
    assert outcome(images, ok) == words


@pytest.mark.parametrize(("rows", "bad"), [(0, 0), (5, 5), (1, 0), (300, 7)])
def test_a_page_stands_for_any_table_and_says_twice_what_it_is_not_for(rows: int, bad: int) -> None:
    table = make_scores(rows, bad=bad)
    page = write_summary(scores=table, run={}, read_image=read_image)
    assert page.startswith("<!DOCTYPE html>")
    assert text_of(page).count(NOT_FOR_DIAGNOSIS) == 2
    assert outcome(rows, rows - bad) in text_of(page)
    for name in CLASSES:
        count = table["label"].to_pylist().count(name)
        assert re.search(rf"{name} {count:,} (\d+\.\d%|–)", text_of(page))


def test_every_way_to_hand_over_the_rows_gives_the_same_page(tmp_path: Path) -> None:
    table = make_scores(5000, bad=40)
    (tmp_path / "scores").mkdir()
    pq.write_table(table.slice(0, 2500), tmp_path / "scores" / "part-00000.parquet")
    pq.write_table(table.slice(2500), tmp_path / "scores" / "part-00001.parquet", row_group_size=100)
    pages = {
        write_summary(scores=scores, run={"classes": CLASSES}, read_image=read_image)
        for scores in (
            table,
            tmp_path / "scores",
            pads.dataset(str(tmp_path / "scores")),
            iter(table.to_batches(max_chunksize=77)),
        )
    }
    assert len(pages) == 1


def test_the_order_of_the_rows_does_not_choose_the_pictures() -> None:
    table = make_scores(2000)
    shuffled = table.take(np.random.default_rng(3).permutation(2000))
    assert sheets(write_summary(scores=table, run={})) == sheets(write_summary(scores=shuffled, run={}))


def test_the_most_and_least_confident_of_each_class_are_shown() -> None:
    table = make_scores(900)
    shown = sheets(write_summary(scores=iter(table.to_batches(max_chunksize=50)), run={}))
    assert len(shown) == len(set(shown)) == 4 * 12
    for name in CLASSES:
        rows = table.filter(pa.compute.equal(table["label"], name)).sort_by("confidence")["uri"].to_pylist()
        assert set(rows[:4]) | set(rows[-4:]) <= set(shown)


def test_a_hundred_thousand_rows_make_a_small_page_in_seconds_and_read_48_images() -> None:
    table = make_scores(100_000, bad=3000)
    asked: list[str] = []

    def read(row: Mapping[str, Any]) -> bytes:
        asked.append(row["uri"])
        return read_image(row)

    began = time.monotonic()
    page = write_summary(scores=table, run={}, read_image=read)
    assert time.monotonic() - began < 20  # under 2 s alone; the machine may be busy
    assert len(asked) == 48
    assert len(page) < 500_000
    assert "3,000 of 100,000 images could not be scored" in page
    assert len(re.findall(r"<code><bdi>archive.zip::", page)) == 5, "five examples of the one cause"


def test_many_classes_and_many_causes_stay_bounded() -> None:
    classes = tuple(f"class {number}" for number in range(130))
    words = ["".join(chr(97 + int(digit)) for digit in str(number)) for number in range(700)]
    table = make_scores(4000, bad=700, classes=classes)
    errors = [f"fault {words[row]}" if row < 700 else None for row in range(4000)]
    table = table.set_column(table.schema.get_field_index("error"), "error", pa.array(errors, pa.string()))
    page = write_summary(scores=table, run={}, read_image=read_image)
    assert page.count("<img ") <= 480
    assert page.count('class="tag"') == CAUSES_SHOWN
    shown = [int(count.replace(",", "")) for count in re.findall(r'class="tag">.*?class="n">([\d,]+)<', page)]
    further = re.search(r"further causes concern ([\d,]+) images", page)
    assert further is not None
    assert sum(shown) + int(further[1]) == 700, "every bad row is counted somewhere"


@pytest.mark.parametrize(
    ("error", "uri", "expected"),
    [
        ("cut short at byte 1,234 of 5,678", "a.jpg", "cut short at byte # of #"),
        ("/data/a/b.jpg: permission denied", "/data/a/b.jpg", "…: permission denied"),
        ("b.jpg is damaged", "s3://x/y.zip::in/b.jpg", "… is damaged"),
        ("cannot open s3://other/place/c.png: 404", "x.jpg", "cannot open …: #"),
        ("object at 0x7f3aab01 failed", "x.jpg", "object at # failed"),
        ("a damaged header", "a", "a damaged header"),
        ("", "a.jpg", "no reason was recorded"),
    ],
)
def test_a_cause_is_told_without_names_and_numbers(error: str, uri: str, expected: str) -> None:
    assert cause(error, uri) == expected


def test_crop_statuses_that_differ_in_a_number_are_counted_together() -> None:
    text = text_of(write_summary(scores=make_scores(300), run={}))
    assert "full_frame: only #% stands out 200 66.7%" in text
    assert "cropped 100 33.3%" in text


def test_names_and_messages_from_outside_are_escaped() -> None:
    evil = '<script>alert("1")</script>\u202egpj.exe'
    table = make_scores(30, bad=2, error=evil)
    for name, value in (("uri", evil + ".jpg"), ("label", evil)):
        values = [value] * 30 if name == "uri" else [None, None] + [value] * 28
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.string()))
    run = {
        "skipped": {evil: {"count": 1, "examples": [evil]}},
        "fingerprint": {"inputs": [evil, "\udcff.jpg"]},
        "settings": {evil: evil},
    }
    page = write_summary(scores=table, run=run, read_image=read_image)
    page.encode("utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert evil in text_of(page)


def test_nothing_is_fetched_from_anywhere() -> None:
    page = write_summary(scores=make_scores(50, bad=1), run={}, read_image=read_image)
    assert not re.search(r"""(?:src|href|action)\s*=\s*["'](?!data:)|url\(|@import|<script|<link|<iframe""", page)
    assert "default-src 'none'" in page


def test_an_image_that_cannot_be_read_leaves_a_placeholder_with_the_reason() -> None:
    def read(row: Mapping[str, Any]) -> bytes:
        if row["uri"].endswith("1.jpg"):
            raise PermissionError("access denied by the bucket")
        return b"this is no image" if row["uri"].endswith("2.jpg") else read_image(row)

    page = write_summary(scores=make_scores(40), run={}, read_image=read)
    text = text_of(page)
    assert text.count("The image could not be shown: access denied by the bucket") == 4
    assert text.count("The image could not be shown: this is not an image") == 4
    assert page.count("<img ") == 32


def test_what_run_json_says_stands_on_the_page() -> None:
    run = {
        "complete": True,
        "classes": CLASSES,
        "fingerprint": {
            "inputs": ["s3://bucket/night"],
            "model_id": "feedbeefcafe0123",
            "preprocess_id": "p-224",
            "precision": "bf16",
        },
        "sessions": [
            {
                "path": "ray",
                "seconds": 100.0,
                "images": 5000,
                "resources": {"CPU": 32.0, "GPU": 2.0},
                "started": "2026-11-23T02:00:00",
            },
            {
                "path": "ray",
                "seconds": 25.0,
                "images": 5000,
                "resources": {"CPU": 32.0, "GPU": 2.0},
                "started": "2026-11-23T03:00:00",
            },
        ],
        "skipped": {"not an image by its name": {"count": 1200, "examples": [f"notes{n}.txt" for n in range(9)]}},
        "versions": {"torch": "2.14.1"},
    }
    text = text_of(write_summary(scores=make_scores(10), run=run))
    for words in (
        "s3://bucket/night", "feedbeefcafe0123", "p-224", "bf16", "80.0 images/s", "2 min 5 s in 2 sessions", "Ray: 32 CPU, 2 GPU",
        "2.14.1", "not an image by its name 1,200", "notes4.txt",
    ):  # fmt: skip
        assert words in text
    assert "notes5.txt" not in text
    assert "not complete" not in text
    assert "This run is not complete." in text_of(write_summary(scores=make_scores(10), run={**run, "complete": False}))


def test_a_table_without_a_column_is_refused_by_name(tmp_path: Path) -> None:
    table = make_scores(3).drop_columns(["crop_status"])
    pq.write_table(table, tmp_path / "scores.parquet")

    def batches() -> Iterator[pa.RecordBatch]:
        yield from table.to_batches()

    for scores in (table, tmp_path / "scores.parquet", batches()):
        with pytest.raises(ValueError, match="'crop_status' is missing"):
            write_summary(scores=scores, run={})


def test_real_images_are_shown_small(real_images: Path) -> None:
    paths = sorted((real_images / "Testing" / "glioma").iterdir())[:12]
    table = make_scores(12)
    table = table.set_column(1, "uri", pa.array([str(path) for path in paths], pa.string()))
    page = write_summary(scores=table, run={}, read_image=lambda row: Path(row["uri"]).read_bytes())
    assert page.count("<img ") == 12
    assert {(int(w), int(h)) for w, h in re.findall(r'width="(\d+)" height="(\d+)" alt', page)} == {(160, 160)}
    assert len(page) < 200_000
