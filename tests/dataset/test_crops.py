"""What is computed of pixels alone is found again under other labels, and under no other pixels."""

import pyarrow as pa
import pytest

from btc_ray.dataset.crops import Crops
from btc_ray.storage import Place


def crops(*contents: str, fingerprint: str = "0123-abcd", label: str = "glioma") -> Crops:
    rows = pa.table({"content_sha256": list(contents), "label": [label] * len(contents)})
    return Crops(fingerprint=fingerprint, folder=Place("nowhere"), rows=rows, skipped={}, size=8)


def test_labels_and_groups_do_not_change_what_the_pixels_are_called() -> None:
    assert crops("a", "b").pixels_id == crops("a", "b", fingerprint="4567-abcd", label="notumor").pixels_id


@pytest.mark.parametrize(
    "other", [crops("a", "b", fingerprint="0123-ffff"), crops("b", "a"), crops("a"), crops("a", "b", "c"), crops("ab")]
)
def test_other_pixels_another_order_and_another_preparation_do(other: Crops) -> None:
    assert other.pixels_id != crops("a", "b").pixels_id
