"""What a file is: format, mode and grey levels, and the same refusals as decoding."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from btc_ray.images.decode import decode
from btc_ray.images.describe import BINS, FRAME, Description, describe


def described(data: bytes) -> Description:
    return describe(data, decode(data))


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("JPEG", "L"),
        ("JPEG", "RGB"),
        ("PNG", "L"),
        ("PNG", "RGB"),
        ("PNG", "P"),
        ("PNG", "RGBA"),
        ("BMP", "RGB"),
        ("TIFF", "L"),
        ("WebP", "RGB"),
    ],
)
def test_format_and_mode_are_those_of_the_file(kind: str, mode: str) -> None:
    sink = io.BytesIO()
    Image.new("L", (90, 70), 100).convert(mode).save(sink, kind)
    found = described(sink.getvalue())
    assert (found.format, found.mode) == (kind, mode)
    assert abs(found.brightness - 100) <= 1
    assert found.contrast < 1


def test_the_histogram_counts_every_pixel_and_the_frame_is_the_whole_picture() -> None:
    grey = np.zeros((100, 200), np.uint8)
    grey[:, 100:] = 255
    found = described(cv2.imencode(".png", grey)[1].tobytes())
    assert found.histogram.tolist() == [0.5, *[0.0] * (BINS - 2), 0.5]
    assert found.frame.shape == (FRAME, FRAME)
    assert (found.frame[:, : FRAME // 2] == 0).all()
    assert (found.frame[:, FRAME // 2 :] == 255).all()
