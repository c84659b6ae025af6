"""What every page has in common: the templates' environment, the palette, and pictures that stand inside the page."""

import base64
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import jinja2
import numpy as np
from jinja2.bccache import Bucket

from btc_ray.images.decode import decode
from btc_ray.reports.shared.figures import SIDE, Box, jpeg, thumbnail
from btc_ray.reports.shared.policy import with_policy
from btc_ray.storage.redact import redact_values

REPORTS = Path(__file__).parents[1]  # each page's template stands in its folder, what they include in `shared`

ReadImage: TypeAlias = Callable[[Mapping[str, Any]], bytes | np.ndarray]
"""A row → the bytes of its image file, or its picture, uint8 (H, W), where a file holds several."""

# Okabe and Ito's colours, told apart by the colour-blind; from the ninth class on they come round again, beside the class's name.
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c8c8c", "#f0e442")


class _CompiledTemplates(jinja2.BytecodeCache):
    """Templates as Python's bytecode, for as long as this process lives: compiling those of a page takes longer than filling them."""

    def __init__(self) -> None:
        self._codes: dict[tuple[str, str], Any] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._codes.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._codes[bucket.key, bucket.checksum] = bucket.code


_COMPILED = _CompiledTemplates()


def render(template: str, *, filters: Mapping[str, Callable[..., str]], **values: Any) -> str:
    """A template of this room as HTML text that can be encoded as UTF-8, whatever bytes a file name holds."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder for folder in REPORTS.iterdir() if folder.is_dir()]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        bytecode_cache=_COMPILED,
    )
    environment.filters |= {"number": lambda value: f"{value:,}", **filters}
    text = environment.get_template(template).render(**redact_values(values)).encode("utf-8", "replace").decode("utf-8")
    return with_policy(text)


def picture(row: Mapping[str, Any], read_image: ReadImage, *, box: Box | None = None, side: int = SIDE) -> dict[str, Any]:
    """`source`, `width` and `height` of a row's thumbnail of this longest side, px, with its crop box; or the `problem` of having none."""
    try:
        found = read_image(row)
        pixels = found if isinstance(found, np.ndarray) else decode(found)
    except Exception as error:  # noqa: BLE001 — whatever a file system raises, a picture must not cost the page
        return {"problem": str(error) or type(error).__name__}
    small = thumbnail(pixels, side=side, box=box)
    return {"source": as_source(jpeg(small), "jpeg"), "width": small.shape[1], "height": small.shape[0]}


def as_source(data: bytes, kind: str) -> str:
    """An image file as the `src` of an `img`."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def file_name(uri: str) -> str:
    """The last part of a URI or of a path inside a container."""
    return re.split(r"::|[/\\]", uri)[-1] or uri
