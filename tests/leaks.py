"""Whose name stands in what may be shared: planted words are looked for in every byte of it."""

import base64
import html
import re
from pathlib import Path

import pyarrow.parquet as pq

_PICTURES = re.compile(r"base64,([A-Za-z0-9+/=]+)")
_NUMBERS = (".png", ".safetensors")  # where four letters in any case may stand by chance


def leaks(folder: Path, words: str = "LEAK") -> list[str]:
    """Files below `folder`, those of a folder `private` apart, with one of `words` in any case: in their names or bytes, in their values
    and metadata as Parquet, in the text of HTML; as they are written, in pictures and in numbers."""
    return [
        path.name
        for path in sorted(folder.rglob("*"))
        if "private" not in path.relative_to(folder).parts and _holds(path, str(path.relative_to(folder)), words)
    ]


def _holds(path: Path, text: str, words: str) -> bool:
    written = ""
    if path.is_file():
        content = path.read_bytes().decode("latin-1")
        if path.suffix in _NUMBERS:
            written = content
        elif path.suffix == ".html":
            written = "".join(base64.b64decode(one).decode("latin-1") for one in _PICTURES.findall(content))
            bare = _PICTURES.sub("", content)
            text += bare + html.unescape(bare)
        else:
            text += content
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            text += f"{table.to_pylist()} {table.schema.metadata}"
    return bool(re.search(words, text, re.IGNORECASE) or re.search(words, written))
