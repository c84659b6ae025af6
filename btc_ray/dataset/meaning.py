"""What a label means to a model: one of its classes, several of them, or any tumour at all, where nobody said which kind."""

import re
import unicodedata
from collections.abc import Sequence

_TUMOUR = {"tumor", "tumour", "tumors", "tumours", "yes"}
_NO_TUMOUR = {"notumor", "notumour", "nontumor", "nontumour", "normal", "healthy", "no"}


def without_tumour(classes: Sequence[str]) -> str | None:
    """The class of images that show no tumour, by its name (notumor, no tumour, healthy, …); None where none or several are called so."""
    found = [name for name in classes if _plain(name) in _NO_TUMOUR]
    return found[0] if len(found) == 1 else None


def classes_meant(label: str, classes: Sequence[str]) -> frozenset[str]:
    """The classes of a model that are a right answer to an image of this label; none where the model does not know it.

    A class is itself; `glioma|meningioma` is each of both; `tumor` or `tumour`, where it is no class, is every class but the one without
    a tumour; `healthy`, `no` and the like are that one.
    """
    if label in classes:
        return frozenset((label,))
    if "|" in label:
        parts = [classes_meant(part.strip(), classes) for part in label.split("|")]
        return frozenset().union(*parts) if all(parts) else frozenset()
    none = without_tumour(classes)
    if none is None:
        return frozenset()
    if _plain(label) in _NO_TUMOUR:
        return frozenset((none,))
    return frozenset(classes) - {none} if _plain(label) in _TUMOUR else frozenset()


def _plain(name: str) -> str:
    """Small letters alone: `No_Tumor` is `notumor`."""
    return re.sub(r"[^a-z]", "", unicodedata.normalize("NFKD", name).casefold())
