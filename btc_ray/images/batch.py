"""Many images at once: bytes in, one Arrow table out, a row an image whatever became of it.

Made for scoring and made for training, a crop goes through here, so that both see the same pixels.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from btc_ray.images.describe import BINS, FRAME, describe
from btc_ray.images.prepare import Preprocess, prepare

OUTCOME = (
    pa.field("row_id", pa.int64(), nullable=False),
    pa.field("uri", pa.string(), nullable=False),
    pa.field("status", pa.string(), nullable=False),
    pa.field("error", pa.string()),
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("crop_x", pa.int32()),
    pa.field("crop_y", pa.int32()),
    pa.field("crop_w", pa.int32()),
    pa.field("crop_h", pa.int32()),
    pa.field("crop_status", pa.string()),
)

DESCRIPTION = (  # null where the file gives no picture
    pa.field("format", pa.string()),
    pa.field("mode", pa.string()),
    pa.field("brightness", pa.float32()),
    pa.field("contrast", pa.float32()),
    pa.field("histogram", pa.binary(4 * BINS)),  # float32
    pa.field("frame", pa.binary(FRAME * FRAME)),  # uint8
)
"""What a file is before anything is done to it, as `images.describe` has it."""


def prepared_schema(size: int) -> pa.Schema:
    """What became of each image (`OUTCOME`), how doubtful its crop is (0 to 1), which values of its file became 0 and 255, the
    sha256 of its bytes, and its pixels: uint8 (size, size) as bytes; null where there are none."""
    return pa.schema(
        [
            *OUTCOME,
            pa.field("doubt", pa.float32()),
            pa.field("window_low", pa.float32()),
            pa.field("window_high", pa.float32()),
            pa.field("content_sha256", pa.string()),
            pa.field("pixels", pa.binary(size * size)),
        ]
    )


def sha256_of(content: bytes) -> str:
    """Hex digits."""
    return hashlib.sha256(content).hexdigest()


def prepare_batch(
    rows: Sequence[Mapping[str, Any]],
    contents: Iterable[bytes | Exception],
    preprocess: Preprocess,
    *,
    described: bool = False,
    digest: Callable[[bytes], str] = sha256_of,
) -> pa.Table:
    """Prepare the images of `rows`; returns a table of `prepared_schema` in the same order.

    Each row has `row_id` and `uri`, and `frame` where its file has several.

    `contents` has the bytes of each row, or the error that reading it ended in, whose `status` (default `failed`) and text become
    the row's. `described`: with the columns of DESCRIPTION at the end, from the same decoding. `digest`: `content_sha256` of the bytes,
    for a caller that knows it already.
    """
    records = [
        {
            "row_id": row["row_id"],
            "uri": row["uri"],
            **(
                _not_read(content)
                if isinstance(content, Exception)
                else _read(content, preprocess, row.get("frame") or 0, described, digest)
            ),
        }
        for row, content in zip(rows, contents, strict=True)
    ]
    schema = prepared_schema(preprocess.size)
    return pa.Table.from_pylist(records, schema=pa.schema([*schema, *DESCRIPTION]) if described else schema)


def pixels_of(table: pa.Table) -> np.ndarray:
    """The crops of a table with a `pixels` column that are there: uint8 (N, size, size), read-only, without a copy."""
    column = table["pixels"].drop_null().combine_chunks()
    side = round(column.type.byte_width**0.5)
    flat = np.frombuffer(column.buffers()[1], np.uint8, count=len(column) * side * side, offset=column.offset * side * side)
    return flat.reshape(len(column), side, side)


def _not_read(error: Exception) -> dict[str, Any]:
    return {"status": getattr(error, "status", "failed"), "error": str(error)}


def _read(content: bytes, preprocess: Preprocess, frame: int, described: bool, digest: Callable[[bytes], str]) -> dict[str, Any]:
    image = prepare(content, preprocess, frame)
    record: dict[str, Any] = {
        "status": image.status,
        "error": image.error,
        "width": image.width,
        "height": image.height,
        "crop_status": image.crop_status,
        "doubt": image.doubt,
        "window_low": image.window_low,
        "window_high": image.window_high,
        "content_sha256": digest(content),
        "pixels": None if image.pixels is None else image.pixels.tobytes(),
    }
    if image.box is not None:
        record |= {"crop_x": image.box.x, "crop_y": image.box.y, "crop_w": image.box.w, "crop_h": image.box.h}
    if described and image.picture is not None:
        found = describe(content, image.picture)
        record |= {name: getattr(found, name) for name in ("format", "mode", "brightness", "contrast")}
        record |= {"histogram": found.histogram.tobytes(), "frame": found.frame.tobytes()}
    return record
