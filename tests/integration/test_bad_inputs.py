"""Everything that goes wrong in real archives gets its row or its count, with a reason; good neighbours are untouched."""

import io
import os
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from btc_ray.phantoms.phantom import make_phantom
from tests.scoring.runs import rows, score

GREY = make_phantom("glioma", seed=7, size=(200, 200)).pixels
JPEG = cv2.imencode(".jpg", GREY)[1].tobytes()
PNG = cv2.imencode(".png", GREY)[1].tobytes()


def _saved(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    (image or Image.fromarray(GREY)).save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def _claims(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its data does not have."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    return PNG[:8] + struct.pack(">I", len(header)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + PNG[33:]


def _zip_without_directory() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.jpg", JPEG)
    return buffer.getvalue()[: len(JPEG)]


FRAMES = [Image.fromarray(np.roll(GREY, shift, 1)) for shift in (0, 30, 60)]

# name → (bytes, status, a word of the reason). None for the reason: a sound image of an unusual kind.
FILES: dict[str, tuple[bytes, str, str | None]] = {
    "empty.jpg": (b"", "unreadable", "empty"),
    "text.jpg": (b"Patient seen today, no findings.", "unreadable", "text"),
    "page.jpg": (b"<!DOCTYPE html><html>404 Not Found</html>", "unreadable", "an HTML page"),
    "zeros.jpg": (bytes(5000), "unreadable", "zero"),
    "magic only.jpg": (JPEG[:3], "unreadable", ""),
    **{f"cut at {tenth}0 percent.jpg": (JPEG[: len(JPEG) * tenth // 10], "unreadable", "") for tenth in range(1, 10)},
    "cut before the end mark.jpg": (JPEG[:-2], "unreadable", ""),
    "cut.png": (PNG[: len(PNG) // 2], "unreadable", ""),
    "damaged.png": (PNG[:60] + b"\xff\x00\xff" + PNG[63:], "unreadable", ""),
    "claims 30000 x 30000.png": (_claims(30_000, 30_000), "unsupported", "30,000"),
    "animated.webp": (_saved("WEBP", FRAMES[0], save_all=True, append_images=FRAMES[1:]), "unsupported", "3"),
    "volume.tif": (_saved("TIFF", FRAMES[0], save_all=True, append_images=FRAMES[1:]), "unsupported", "3"),
    "film.gif.jpg": (_saved("GIF"), "unsupported", "GIF"),
    "one pixel.png": (cv2.imencode(".png", GREY[:1, :1])[1].tobytes(), "ok", None),
    "one row.png": (cv2.imencode(".png", GREY[100:101])[1].tobytes(), "ok", None),
    "black.png": (cv2.imencode(".png", np.zeros((64, 64), np.uint8))[1].tobytes(), "ok", None),
    "png named.jpg": (PNG, "ok", None),
    "float.tif": (_saved("TIFF", Image.fromarray(GREY.astype(np.float32) / 255)), "ok", None),
    "12 bit in 16.png": (cv2.imencode(".png", GREY.astype(np.uint16) * 16)[1].tobytes(), "ok", None),
    "cmyk.jpg": (_saved("JPEG", Image.fromarray(GREY).convert("CMYK")), "ok", None),
    "palette.png": (_saved("PNG", Image.fromarray(GREY).convert("P")), "ok", None),
    "transparent.png": (_saved("PNG", Image.fromarray(GREY).convert("LA")), "ok", None),
    "one bit.bmp": (_saved("BMP", Image.fromarray(GREY).convert("1")), "ok", None),
    "trailing garbage.jpg": (JPEG + b"DICOM viewer was here", "ok", None),
    "ünïcode ☢ 頭.jpg": (JPEG, "ok", None),
    "two\nlines.jpg": (JPEG, "ok", None),
    "100% #1 [a]?.jpg": (JPEG, "ok", None),
    "<script>alert(1)<_script>.jpg": (JPEG, "ok", None),
    "half a zip.zip": (_zip_without_directory(), "unreadable", ""),
    "not a zip.zip": (b"just text", "unreadable", ""),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad") / "archive"
    folder.mkdir()
    for name, (data, _, _) in FILES.items():
        (folder / name).write_bytes(data)
    for number in range(4):
        (folder / f"good neighbour {number}.jpg").write_bytes(JPEG)
    (folder / "folder.jpg").mkdir()
    (folder / "folder.jpg" / "inside.jpg").write_bytes(JPEG)
    (folder / "broken link.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / ".hidden.jpg").write_bytes(JPEG)
    (folder / "._leftover.jpg").write_bytes(b"\0" * 100)
    (folder / "Thumbs.db").write_bytes(b"\0")
    (folder / "scan.dcm").write_bytes(b"\0" * 128 + b"DICM")
    (folder / "notes.txt").write_text("no image")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "loop").symlink_to(folder)
    with zipfile.ZipFile(folder / "members.zip", "w") as archive:
        archive.writestr("good.jpg", JPEG)
        archive.writestr("../outside.jpg", JPEG)
        archive.writestr("inner.zip", _zip_without_directory())
        archive.writestr("__MACOSX/._good.jpg", b"\0")
        archive.writestr("empty.jpg", b"")
    with zipfile.ZipFile(folder / "empty.zip", "w"):
        pass
    return folder


@pytest.fixture(scope="module")
def run(model: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("bad") / "run"
    assert score(model, [folder], run, "--max-bad-fraction", "1", "--privacy", "off") == 0
    return run


@pytest.mark.parametrize("name", FILES)
def test_every_file_gets_its_row_with_a_reason(run: Path, folder: Path, name: str) -> None:
    _, status, word = FILES[name]
    row = rows(run).set_index("uri").loc[str(folder / name)]
    assert row["status"] == status, row["error"]
    if word is None:
        assert pd.isna(row["error"])
        assert row["label"]
    else:
        assert word in row["error"]
        assert len(row["error"].split()) >= 3, "a reason is a sentence"
        assert "Traceback" not in row["error"]


def test_good_neighbours_are_untouched(run: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "alone.jpg").write_bytes(JPEG)
    score(model, [tmp_path / "alone.jpg"], tmp_path / "run")
    alone = rows(tmp_path / "run").iloc[0]
    found = rows(run)
    neighbours = found[found["uri"].str.contains("good neighbour|inside|members.zip::good", regex=True)]
    assert len(neighbours) == 6
    for _, row in neighbours.iterrows():
        assert row["label"] == alone["label"]
        assert row["confidence"] == pytest.approx(alone["confidence"], abs=1e-4)


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("broken link.jpg", "failed"),
        ("scan.dcm", "unreadable"),
        ("members.zip::../outside.jpg", "unsupported"),
        ("members.zip::inner.zip", "unsupported"),
        ("members.zip::empty.jpg", "unreadable"),
    ],
)
def test_what_cannot_be_read_is_a_row(run: Path, folder: Path, name: str, status: str) -> None:
    row = rows(run).set_index("uri").loc[f"{folder}/{name}"]
    assert (row["status"], bool(row["error"])) == (status, True)


@pytest.mark.parametrize(
    "name",
    [
        ".hidden.jpg",
        "._leftover.jpg",
        "Thumbs.db",
        "notes.txt",
        "pipe.jpg",
        "members.zip::__MACOSX/._good.jpg",
        "empty.zip",
    ],
)
def test_what_is_no_image_is_counted_and_named(run: Path, folder: Path, name: str) -> None:
    skipped = dict(
        zip(*(pq.read_table(run / "skipped.parquet")[column].to_pylist() for column in ("uri", "reason")), strict=True)
    )
    assert skipped[f"{folder}/{name}"]


def test_nothing_is_lost(run: Path, folder: Path) -> None:
    named = set(rows(run)["uri"]) | set(pq.read_table(run / "skipped.parquet")["uri"].to_pylist())
    for path in folder.rglob("*"):
        opened = path.is_dir() or path.suffix == ".zip"
        assert str(path) in named or (opened and any(name.startswith(str(path)) for name in named)), path


def test_the_page_escapes_what_a_file_name_says(run: Path) -> None:
    assert "<script>alert" not in (run / "summary.html").read_text()


OURS = ("Listing", "Looking into", "Indexing", "Scoring", "Writing", "What to look at")  # beginnings of what the job itself says


def test_broken_files_write_nothing_of_their_own_to_stderr(model: Path, folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "btc_ray.cli", "score", "--model", str(model), "--output", str(tmp_path / "run"), "--input"]
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=120, check=False)
    lines = [line for line in done.stderr.splitlines() if not line.startswith(OURS)]
    assert [line for line in lines if "skipped." not in line and "not ok" not in line] == []


@pytest.mark.parametrize(
    "change", [lambda path: path.unlink(), lambda path: path.write_bytes(b""), lambda path: path.write_bytes(JPEG[:500])]
)
def test_an_image_that_changes_after_the_listing_is_a_row(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object]
) -> None:
    from btc_ray.scoring import run as runs

    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "images" / name).write_bytes(JPEG)
    real = runs._execute

    def then_change(*arguments: object, **named: object) -> object:
        change(tmp_path / "images" / "b.jpg")
        return real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(runs, "_execute", then_change)
    assert score(model, [tmp_path / "images"], tmp_path / "run") == 0
    assert rows(tmp_path / "run")["status"].tolist()[0] == "ok"
    assert rows(tmp_path / "run")["status"].tolist()[1] in ("failed", "unreadable")


def test_a_file_without_permission_is_a_row(model: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "images" / name).write_bytes(JPEG)
    (tmp_path / "images" / "b.jpg").chmod(0)
    score(model, [tmp_path / "images"], tmp_path / "run")
    assert rows(tmp_path / "run")["status"].tolist() == ["ok", "failed"]


def test_a_vanished_archive_fails_its_rows_and_no_others(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from btc_ray.scoring import run as runs

    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(JPEG)
    with zipfile.ZipFile(tmp_path / "images" / "b.zip", "w") as archive:
        archive.writestr("x.jpg", JPEG)
        archive.writestr("y.jpg", JPEG)
    real = runs._execute

    def vanish(*arguments: object, **named: object) -> object:
        shutil.move(tmp_path / "images" / "b.zip", tmp_path / "elsewhere.zip")
        return real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(runs, "_execute", vanish)
    assert score(model, [tmp_path / "images"], tmp_path / "run", "--max-bad-fraction", "1") == 0
    assert rows(tmp_path / "run")["status"].tolist() == ["ok", "failed", "failed"]
