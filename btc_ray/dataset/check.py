"""The classes of a labelled data set, looked at before anything is trained on them: how many images each has, and which names are
likely a mistake: another spelling of a class, a folder that is no class, a data set inside itself.

Every name is told with its count. `--classes` insists on what is refused here.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from btc_ray.dataset.several import named_classes
from btc_ray.dataset.split import SPLITS
from btc_ray.dataset.table import SPLIT_WORDS, LabelledDataError, class_names, folders_below, several_names, to_read
from btc_ray.images.prepare import Preprocess
from btc_ray.progress import say
from btc_ray.storage import Place
from btc_ray.storage.redact import redact
from btc_ray.studies.preparer import Preparer

LEAST = 3  # images of a class: one to learn from, one to choose with, one to measure with
LOOKED_AT = 5  # images of each class that are read before all of them are
MOST_CLASSES = 200  # more different labels than this are a column of identifiers or of free text

_COPY = {
    *("copy", "copia", "kopie", "backup", "old"),
    *("aug", "augmented", "augmentation", "flipped", "rotated", "resized", "cropped", "preprocessed", "cleaned"),
}
# With a number: a part of the data.
_PART = {*("fold", "folds", "part", "batch", "set", "subset", "cv", "chunk", "shard"), *SPLIT_WORDS}
_TUMOUR = {"tumor", "tumors", "tumour", "tumours", "class", "mri"}
_SPLIT = set(SPLIT_WORDS) | {"dev", "eval", "holdout"}
_NO_CLASS = _SPLIT | _COPY - {"old"} | {
    *("image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "scan", "scans", "slices", "data", "dataset", "datasets"),
    *("label", "labels", "mask", "masks", "annotation", "annotations", "segmentation", "segmentations", "result", "results", "output"),
    *("archive", "new", "folder", "tmp", "temp", "misc", "unlabeled", "unlabelled", "todo", "nan", "null"),
}  # fmt: skip


def check_classes(table: pa.Table, data: Place, *, classes: Sequence[str] = ()) -> pa.Table:
    """The rows of `table` to train on; says how many images each class has in each split.

    Args:
        table: as `read_labelled` gives it.
        classes: exactly these; images of other labels are left out and counted aloud. empty: all, where no name is odd.

    Raises LabelledDataError where a class is missing or odd, or has fewer than LEAST images.
    """
    if classes:
        table = _only(table, data, tuple(dict.fromkeys(classes)))
    several = several_names(table)
    counts = Counter(name for name in table["label"].to_pylist() if name not in several)
    say(_counted(table))
    _check_one_label(table, data)
    if not classes and (found := _nested(table, data, counts) + oddities(counts)):
        raise LabelledDataError(
            f"{data}: {' '.join(found)} Rename or move them, or say which classes there are: "
            f"--classes {' '.join(_quoted(name) for name in class_names(table))} (or fewer: images of others are left out)."
        )
    if few := {name: counts[name] for name in class_names(table) if counts[name] < LEAST}:
        raise LabelledDataError(
            f"{data}: too few images of {_listed(few)}; a class needs {LEAST} at least, to learn from, to choose with and to measure with."
        )
    return table


def _check_one_label(table: pa.Table, data: Place) -> None:
    """That no image is named with two labels. Raises LabelledDataError."""
    labels = table.select(["uri", "label"]).group_by("uri").aggregate([("label", "distinct")])
    if len(odd := labels.filter(pc.greater(pc.list_value_length(labels["label_distinct"]), 1))):
        first = odd.slice(0, 1).to_pylist()[0]
        raise LabelledDataError(
            f"{data}: {len(odd):,} image{'s are' if len(odd) > 1 else ' is'} named with two labels, "
            f"{_printable(redact(first['uri']))} with {' and '.join(map(_quoted, sorted(first['label_distinct'])))}. Leave the right one."
        )


def say_classes(table: pa.Table, data: Place) -> None:
    """Say how many images each class has, and what looks odd: for jobs that only look."""
    say(_counted(table))
    several = several_names(table)
    counts = Counter(name for name in table["label"].to_pylist() if name not in several)
    for sentence in _nested(table, data, counts) + oddities(counts):
        say(f"look at this: {sentence}")


def check_readable(table: pa.Table, data: Place, preprocess: Preprocess) -> None:
    """Read a few images of each class, spread over all: where not one of a class can be read, training would end in nothing, later.

    Raises LabelledDataError, with the causes.
    """
    labels = np.array(table["label"].to_pylist(), object)
    prepare = Preparer(preprocess, data.options)
    hopeless: dict[str, int] = {}
    causes: Counter[str] = Counter()
    for name in class_names(table):
        rows = np.flatnonzero(labels == name)
        found = prepare(to_read(table.take(rows[np.unique(np.linspace(0, len(rows) - 1, LOOKED_AT).round().astype(int))])))
        if "ok" not in found["status"].to_pylist():
            hopeless[name] = len(rows)
            causes.update(found["error"].to_pylist())
    if hopeless:
        why = "; ".join(cause for cause, _ in causes.most_common(3))
        raise LabelledDataError(
            f"{data}: none of the images looked at can be read ({LOOKED_AT} at most of each class), of {_listed(hopeless)}: {why}"
        )


def oddities(counts: Mapping[str, int]) -> list[str]:
    """What looks like a mistake among classes with so many images each, a sentence each; empty where nothing does."""
    if len(counts) > MOST_CLASSES:
        some = ", ".join(_quoted(name) for name in sorted(counts)[:3])
        return [f"there are {len(counts):,} different labels ({some}, …), as if the column held identifiers and no classes."]
    found = [
        f"{' and '.join(f'{_quoted(name)} ({counts[name]:,})' for name in alike)} are likely the same class."
        for alike in _alike(counts)
    ]
    for name in sorted(counts):
        if not name.isprintable():
            found.append(f"{name!r} ({counts[name]:,}) holds characters that cannot be printed.")
        elif (words := _words(name)) and (set(words) <= _NO_CLASS or _is_part(words)):
            found.append(f"{_quoted(name)} ({counts[name]:,}) is likely no class.")
    return found


def _nested(table: pa.Table, data: Place, counts: Mapping[str, int]) -> list[str]:
    """Class folders that hold folders named like other classes: the data set, or a part of it, inside itself."""
    found = []
    for name, below in sorted(folders_below(table, data).items()):
        others = {_plain(_words(other)) for other in counts if other != name}
        if again := sorted(folder for folder in below if _plain(_words(folder)) in others):
            found.append(
                f"the folder {_quoted(name)} ({counts[name]:,} images) holds the class folders {' and '.join(map(_quoted, again))} once "
                "more, as a copy of the data set inside itself does."
            )
    return found


def _only(table: pa.Table, data: Place, classes: tuple[str, ...]) -> pa.Table:
    there = Counter(table["label"].to_pylist())
    if missing := [name for name in classes if name not in there]:
        raise LabelledDataError(
            f"{data} has no image of the class {' or '.join(map(_quoted, missing))} that --classes names; it has {_listed(there)}."
        )
    if len(classes) < 2:
        raise LabelledDataError("--classes names one class; telling apart needs two.")
    kept = {name for name in there if named_classes(name, classes)}
    if others := {name: count for name, count in there.items() if name not in kept}:
        say(f"left out, since --classes does not name them: {_listed(others)}")
    return table.filter(pc.is_in(table["label"], pa.array(sorted(kept))))


def _counted(table: pa.Table) -> str:
    """Images of each class in each split, a line a class."""
    names = (*class_names(table), *several_names(table))
    cells = Counter(zip(table["label"].to_pylist(), table["split"].to_pylist(), strict=True))
    splits = [split for split in (*SPLITS, None) if any(cells[name, split] for name in names)]
    width = max(map(len, names))
    lines = [f"{len(table):,} labelled images of {len(class_names(table))} classes:"]
    for name in names:
        parts = [f"{cells[name, split]:>9,}{'' if split is None else f' {split}'}" for split in splits]
        lines.append(f"  {_printable(name):<{width}} {'  '.join(parts)}")
    return "\n".join(lines)


def _alike(names: Iterable[str]) -> list[list[str]]:
    """Groups of names that are likely one: letter case, spaces, a word such as tumour or copy, one letter more, less or other."""
    words = {name: _words(name) for name in sorted(names)}
    group = {name: {name} for name in words}
    for first, second in combinations(words, 2):
        one, other = words[first], words[second]
        if _plain(one) == _plain(other) or _essential(one) == _essential(other) or _misspelt(one, other):
            joined = group[first] | group[second]
            group.update(dict.fromkeys(joined, joined))
    return sorted(sorted(found) for found in {frozenset(one) for one in group.values()} if len(found) > 1)


def _words(name: str) -> list[str]:
    """Its words, in small letters without accents; numbers keep their point: 1.1 is not 11."""
    bare = "".join(letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", bare)
    found = re.findall(r"\d+(?:\.\d+)*|[^\W\d_]+|[+]", spaced.casefold())
    return [re.sub(r"^0+(?=\d)", "", word) for word in found]  # 01 is 1


def _is_part(words: Sequence[str]) -> bool:
    """Whether a name is that of a part of a data set: fold1, batch_02, train3."""
    return len(words) > 1 and words[-1].isdecimal() and set(words[:-1]) <= _PART


def _essential(words: Sequence[str]) -> list[str]:
    """Without the words that people add to a class's name; all of them where nothing else is left."""
    return [word for word in words if word not in _TUMOUR | _COPY | _SPLIT] or list(words)


def _plain(words: Sequence[str]) -> str:
    """Numbers stay apart from each other: `grade 1 1` is not `grade 11`."""
    return re.sub(r"(?<=\d) (?=\d)", "/", " ".join(words)).replace(" ", "")


def _misspelt(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether one word has a letter left out, put in or mistaken. Words of six letters and more only, for `grade II` is not `grade III`,
    and with the same first letter, for `typical` is not `atypical`."""
    different = [(one, other) for one, other in zip(first, second, strict=False) if one != other]
    if len(first) != len(second) or len(different) != 1:
        return False
    short, long = sorted(different[0], key=len)
    if len(short) < 6 or short[0] != long[0] or not (short.isalpha() and long.isalpha()):
        return False
    if len(short) == len(long):
        return sum(a != b for a, b in zip(short, long, strict=True)) == 1
    return len(long) - len(short) == 1 and any(long[:at] + long[at + 1 :] == short for at in range(len(long)))


def _listed(counts: Mapping[str, int]) -> str:
    shown = [f"{_quoted(name)} ({count:,})" for name, count in sorted(counts.items())[:20]]
    return ", ".join(shown) + (f" and {len(counts) - 20:,} others" if len(counts) > 20 else "")


def _quoted(name: str) -> str:
    """As a shell takes it, and with nothing that a terminal would obey."""
    return name if re.fullmatch(r"[\w.+-]+", name) else repr(name)


def _printable(name: str) -> str:
    return name if name.isprintable() else repr(name)[1:-1]
