"""What a label of images from elsewhere means to a model: what `several` says of labels to learn from, and beyond it any tumour at all,
where nobody said which kind."""

import re
import unicodedata
from collections.abc import Sequence

from btc_ray.dataset.several import named_classes

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
    if named := named_classes(label, classes):  # what a training learns from
        return frozenset(named)
    none = without_tumour(classes)
    if none is None:
        return frozenset()
    if _plain(label) in _NO_TUMOUR:
        return frozenset((none,))
    return frozenset(classes) - {none} if _plain(label) in _TUMOUR else frozenset()


def _plain(name: str) -> str:
    """Small letters alone: `No_Tumor` is `notumor`."""
    return re.sub(r"[^a-z]", "", unicodedata.normalize("NFKD", name).casefold())
