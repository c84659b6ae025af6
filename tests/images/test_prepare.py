"""From bytes to the square a model sees; whatever is wrong with an image is said, not raised."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from btc_ray.images import prepare as room
from btc_ray.images.crop import Box
from btc_ray.images.decode import decode_shrunk
from btc_ray.images.prepare import LEAST_SIDE, Prepared, Preprocess, prepare
from btc_ray.phantoms.phantom import LABELS, make_phantom
from tests.images.test_crop import head
from tests.images.test_decode import FILES, FRAMES, encoded, tiff


def png(grey: np.ndarray) -> bytes:
    return encoded(grey, "PNG")


@pytest.mark.parametrize("crop", ["robust", "kaggle", "none"])
@pytest.mark.parametrize("size", [1, 64, 224, 700])
def test_a_head_becomes_a_square_of_the_asked_size(crop: Any, size: int) -> None:
    result = prepare(png(head()), Preprocess(crop=crop, size=size))
    assert (result.status, result.error) == ("ok", None)
    assert result.pixels is not None
    assert (result.pixels.shape, result.pixels.dtype) == ((size, size), np.uint8)
    assert result.pixels.base is None, "a view would keep the whole image in memory"
    assert (result.width, result.height) == (512, 512)
    assert result.crop_status == ("full_frame: cropping is switched off" if crop == "none" else "cropped")


def test_the_crop_is_stretched_to_the_square() -> None:
    result = prepare(png(head()), Preprocess())
    assert result.box is not None
    assert result.pixels is not None
    assert result.box.h > 1.2 * result.box.w
    rows, columns = np.nonzero(result.pixels > 60)
    assert np.ptp(rows) > 195
    assert np.ptp(columns) > 195


def test_shrinking_counts_every_pixel() -> None:
    checks = (np.indices((448, 448)).sum(axis=0) % 2 * 255).astype(np.uint8)
    result = prepare(png(checks), Preprocess(crop="none"))
    assert result.pixels is not None
    assert np.abs(result.pixels.astype(int) - 128).max() <= 1


def test_an_oblong_picture_shrinks_one_way_and_grows_the_other() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (10, 448))
    result = prepare(png(stripes), Preprocess(crop="none"))
    assert result.pixels is not None
    assert np.abs(result.pixels.astype(int) - 128).max() <= 1
    assert (result.width, result.height, result.box) == (896, 10, Box(0, 0, 896, 10))


def test_the_size_told_is_the_upright_one() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    result = prepare(encoded(head()[:400], "JPEG", exif=exif), Preprocess())
    assert (result.width, result.height) == (400, 512)


@pytest.mark.parametrize(
    ("data", "status", "word"),
    [
        pytest.param(b"", "unreadable", "empty", id="empty"),
        pytest.param(b"patient;label\n1;glioma\n", "unreadable", "text", id="text"),
        *(pytest.param(FILES["grey jpeg"][:-cut], "unreadable", "cut short", id=f"jpeg less {cut}") for cut in (1, 2, 100, 900)),
        *(pytest.param(FILES["grey png"][:-cut], "unreadable", "cut short", id=f"png less {cut}") for cut in (1, 12, 100, 900)),
        pytest.param(encoded(FRAMES[0], "GIF"), "unsupported", "GIF", id="gif"),
        pytest.param(encoded(FRAMES[0], "TIFF", save_all=True, append_images=FRAMES[1:]), "unsupported", "12 pages", id="pages"),
        pytest.param(png(np.zeros((200, 201), np.uint8)), "unsupported", "limit of 40,000", id="too large"),
    ],
)
def test_what_is_wrong_stands_in_the_result(data: bytes, status: str, word: str) -> None:
    result = prepare(data, Preprocess(max_pixels=40_000))
    assert result.status == status
    assert word in str(result.error)
    assert result == Prepared(status=result.status, error=result.error)  # nothing is claimed of what was not seen


def test_running_out_of_memory_is_a_failed_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr(room, "decode_shrunk", exhausted)
    result = prepare(FILES["grey png"], Preprocess())
    assert (result.status, result.pixels) == ("failed", None)
    assert "memory" in str(result.error)


def _opencv_gives_up(*_: object, **__: object) -> np.ndarray:
    return cv2.resize(np.zeros((0, 0), np.uint8), (1, 1))


def _raises(error: Exception) -> Callable[..., np.ndarray]:
    def raises(*_: object, **__: object) -> np.ndarray:
        raise error

    return raises


@pytest.mark.parametrize(
    ("step", "word"),
    [
        pytest.param(_opencv_gives_up, "OpenCV", id="opencv"),
        *(
            pytest.param(_raises(error), type(error).__name__, id=type(error).__name__)
            for error in (TypeError("Jane Doe"), RecursionError("Jane Doe"), struct.error("Jane Doe"), OSError(5, "Jane Doe"))
        ),
    ],
)
def test_whatever_one_image_raises_is_its_row_which_names_the_place_and_quotes_nothing(
    step: Callable[..., np.ndarray], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "square", step)
    result = prepare(FILES["grey png"], Preprocess())
    assert (result.status, result.width, result.pixels) == ("failed", 83, None)
    assert word in str(result.error)
    assert "line" in str(result.error)
    assert "Jane" not in str(result.error)


def test_the_id_tells_settings_apart_by_the_pixels_they_give() -> None:
    ids = [Preprocess(crop=crop, size=size).preprocess_id for crop in ("robust", "kaggle", "none") for size in (224, 160)]
    assert len(set(ids)) == 6
    assert all(len(one) == 16 and int(one, 16) >= 0 for one in ids)
    assert Preprocess(max_pixels=1000).preprocess_id == Preprocess().preprocess_id
    assert Preprocess(algorithm=1).preprocess_id != Preprocess().preprocess_id


def test_the_ids_are_those_in_bundles_already_written() -> None:
    # They change with ALGORITHM and with nothing else; a change makes every bundle out there refuse new images.
    assert Preprocess(algorithm=1).preprocess_id == "71723641b01f30d3"
    assert Preprocess(algorithm=2).preprocess_id == "85cec4329ef31efe"
    assert Preprocess().preprocess_id == "185807470ce8f931"


def test_settings_come_back_from_json() -> None:
    settings = Preprocess(crop="kaggle", size=160, max_pixels=10**6)
    assert Preprocess.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    assert Preprocess.from_dict({}) == Preprocess(algorithm=1), "a bundle that names no algorithm was made by the first"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sise": 224}, "unknown preprocess settings sise; known are crop, size, max_pixels, algorithm"),
        ({"crop": "tight"}, "crop is 'tight'; it can be robust, kaggle, none"),
        ({"size": 0}, "size is 0"),
        ({"size": 224.0}, "whole number"),
        ({"max_pixels": True}, "max_pixels is True"),
        ({"algorithm": 4}, "algorithm is 4; it must be a whole number from 1 to 3"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Preprocess.from_dict(values)


def jpeg(side: tuple[int, int], seed: int = 0, **options: Any) -> bytes:
    """A phantom as a scanner's export might have it."""
    return encoded(make_phantom(LABELS[seed % len(LABELS)], seed=seed, size=side).pixels, "JPEG", quality=92, **options)


@pytest.mark.parametrize("side", [(512, 512), (513, 767), (1024, 1024), (2048, 1900)], ids=lambda side: f"{side[1]}x{side[0]}")
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.slow
def test_a_jpeg_decoded_at_a_part_of_its_size_gives_the_crop_of_the_whole(side: tuple[int, int], seed: int) -> None:
    data = jpeg(side, seed)
    assert decode_shrunk(data, least_side=LEAST_SIDE).grey.shape < side, "or nothing is compared"
    whole, part = (prepare(data, Preprocess(size=160, algorithm=algorithm)) for algorithm in (1, 2))
    assert (part.width, part.height, part.crop_status) == (whole.width, whole.height, whole.crop_status)
    boxes = np.array([[box.x, box.y, box.x + box.w, box.y + box.h] for box in (whole.box, part.box) if box is not None])
    assert np.abs(boxes[0] - boxes[1]).max() <= 0.0125 * max(side), "two pixels of the small copy that the head is looked for in"
    whole, part = (prepare(data, Preprocess(crop="none", size=160, algorithm=algorithm)) for algorithm in (1, 2))
    assert np.abs(np.asarray(whole.pixels, int) - np.asarray(part.pixels, int)).mean() < 2, "of 255 grey levels"


def test_a_head_too_small_for_a_part_is_cut_from_the_whole() -> None:
    canvas = np.full((1024, 1024), 4, np.uint8)
    canvas[300:700, 320:720] = head(400)
    data = encoded(canvas, "JPEG", quality=95)
    whole, part = (prepare(data, Preprocess(size=160, algorithm=algorithm)) for algorithm in (1, 2))
    assert whole.box == part.box
    assert np.abs(np.asarray(whole.pixels, int) - np.asarray(part.pixels, int)).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_decoded_at_a_part_of_its_size_is_turned_like_the_whole(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = jpeg((640, 900), seed=3, exif=exif)
    whole, part = (prepare(data, Preprocess(crop="none", size=64, algorithm=algorithm)) for algorithm in (1, 2))
    assert (part.width, part.height, part.box) == (whole.width, whole.height, whole.box)
    assert np.abs(np.asarray(whole.pixels, int) - np.asarray(part.pixels, int)).mean() < 2


@pytest.mark.parametrize("kind", [np.uint16, np.uint32, np.float32, np.float64], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("planted", [65_535, 200_000])
def test_a_letter_burned_into_a_deep_picture_does_not_darken_the_head(kind: Any, planted: int) -> None:
    values = head(300).astype(kind) * 16
    lettered = values.copy()
    lettered[5:25, 5:11] = min(planted, np.iinfo(kind).max) if kind in (np.uint16, np.uint32) else planted
    plain, marked, before = (
        prepare(tiff(of), Preprocess(crop="none", algorithm=algorithm))
        for of, algorithm in ((values, 3), (lettered, 3), (lettered, 2))
    )
    darker = [float(np.median(np.asarray(one.pixels)[100:140, 100:140])) for one in (plain, marked, before)]
    assert abs(darker[0] - darker[1]) < 12
    assert darker[2] < darker[0] / 4, "which bundles of before go on with"
    assert marked.window_high is not None
    assert marked.window_high <= 255 * 16
    assert before.window_high == lettered.max()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
def test_pictures_of_eight_bits_have_the_same_pixels_by_the_second_and_the_third_algorithm(kind: str) -> None:
    data = encoded(head(400), kind)
    second, third = (prepare(data, Preprocess(size=160, algorithm=algorithm)) for algorithm in (2, 3))
    assert np.array_equal(np.asarray(second.pixels), np.asarray(third.pixels))
    assert (third.window_low, third.window_high) == (None, None)


def test_the_authors_crop_is_always_that_of_the_whole() -> None:
    results = [prepare(jpeg((1024, 1024)), Preprocess(crop="kaggle", size=64, algorithm=algorithm)) for algorithm in (1, 2)]
    assert results[0].box == results[1].box


@pytest.mark.shared
def test_real_images_are_all_prepared(real_images: Path) -> None:
    paths = sorted(real_images.rglob("*.jpg"))[::25]
    results = [prepare(path.read_bytes(), Preprocess()) for path in paths]
    assert {result.status for result in results} == {"ok"}
    assert all(result.pixels is not None and np.ptp(result.pixels) > 50 for result in results)
