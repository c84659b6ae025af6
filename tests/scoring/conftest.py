"""What the tests of scoring share."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def archive(phantoms: Path, tmp_path: Path) -> Path:
    """Twenty phantoms, an empty file among them, and a file that is no image."""
    folder = Path(shutil.copytree(phantoms / "Testing", tmp_path / "archive"))
    (folder / "glioma" / "broken.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("not an image")
    return folder
