"""Which labelled images a model may be measured on, and what each choice means: what it trained on is never counted in silence.

A bundle's `split.parquet` says which images it saw. Without it that is unknown, and every set says so.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

PUBLISHED, CLEAN, GROUP, NEW, ALL = "published", "published_without_copies", "group", "new", "all"
BELIEVED = (NEW, GROUP, CLEAN, PUBLISHED, ALL)  # the most telling first
SLICES, EXAMINATIONS = "out_of_fold", "out_of_fold_examinations"
TITLES = {
    PUBLISHED: "Published split",
    CLEAN: "Published test images without a copy in training",
    GROUP: "Group split",
    NEW: "Images new to the model",
    ALL: "All labelled images",
    SLICES: "Out of fold, slice by slice",
    EXAMINATIONS: "Out of fold, examination by examination",
}
SENTENCES = {
    PUBLISHED: "All images of the folder Testing, copies and doubtful labels among them: the number to compare with other reports.",
    CLEAN: "Those published test images of which the model has trained on no copy (re-encoded, mirrored or turned) and on no other "
    "image of the same group. Images whose copies bear another label are left out.",
    GROUP: "Images whose whole group (all copies of an image, all images of a patient where the data names patients) was held out "
    "before training. Images whose copies bear another label are left out.",
    NEW: "Images that the model's record of its training does not hold, less those with a copy that it does. Images whose copies "
    "bear another label are left out.",
    ALL: "Every labelled image; the bundle does not record which images it was trained on.",
    SLICES: "Every image once, by a model that was trained on the other folds: no image of its patient, and no copy of it, was among "
    "them. Images whose copies bear another label are left out.",
    EXAMINATIONS: "The mean of the probabilities of an examination's slices (of a patient's, where no examination is named). Slices of "
    "which neither is known are left out.",
}
_SEEN = ("train", "validation")  # the validation images have chosen the epoch and the temperature


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What is known of each labelled image before a model sees it: N rows in the order of the listing.

    `uri`, `label`, `content_sha256` object (N,), the last None for a file that could not be read; `published_test` and
    `contradicting` (a copy has another label) bool (N,); `group` int64 (N,), equal for copies and for what the data calls a group.
    """

    uri: np.ndarray
    label: np.ndarray
    content_sha256: np.ndarray
    group: np.ndarray
    published_test: np.ndarray
    contradicting: np.ndarray

    def readable(self) -> np.ndarray:
        """bool (N,): whether the file could be read and decoded."""
        return np.array([content is not None for content in self.content_sha256], bool)


@dataclass(frozen=True, kw_only=True)
class TrainingOverlap:
    """What a model had to do with each of N labelled images, all bool (N,).

    `known`: its record names the file; `seen`: these bytes trained it, or chose its best epoch; `copy_seen`: an image of its group
    did (`seen` ones among them); `held_out`: kept for testing. `trained_on` counts the images in the record that it saw, `present`
    those of them that are among the N.
    """

    known: np.ndarray
    seen: np.ndarray
    copy_seen: np.ndarray
    held_out: np.ndarray
    trained_on: int
    present: int


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images to measure one model on. `rows` bool (N,); `remarks` belong beside the number, wherever it stands."""

    key: str
    rows: np.ndarray
    seen: int | None  # None: not recorded
    copy_seen: int | None
    contradicting: int  # in the set
    left_out: dict[str, int]  # reason → images that would otherwise be in it
    remarks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A number that is not to be had, why, and the commands that would give it, if any do."""

    key: str
    reason: str
    commands: tuple[str, ...] = ()


def training_overlap(truth: Truth, split: pa.Table) -> TrainingOverlap:
    """Find the images of `split` (a bundle's split.parquet) among the labelled ones, by their bytes; data that was moved is found.

    Copies are found by the groups of `truth`, and by those that the record itself holds, so that they are found where the training
    images are not among the data.
    """
    rows = split.select(["uri", "content_sha256", "split", "group"]).to_pylist()
    by_file = {(row["uri"], row["content_sha256"]): row["split"] for row in rows}
    order = {name: place for place, name in enumerate((*_SEEN, "test"))}
    by_content: dict[str, str] = {}
    group_of: dict[str, int] = {}
    for row in sorted(rows, key=lambda row: -order.get(row["split"], len(order))):  # of equal bytes the one that was seen counts
        if row["content_sha256"] is not None:
            by_content[row["content_sha256"]] = row["split"]
            if row["group"] is not None and row["group"] >= 0:
                group_of[row["content_sha256"]] = row["group"]
    groups_seen = {row["group"] for row in rows if row["split"] in _SEEN and row["group"] is not None and row["group"] >= 0}
    contents = truth.content_sha256.tolist()
    seen = np.array([by_content.get(content) in _SEEN for content in contents], bool)
    recorded = np.array([group_of.get(content) in groups_seen for content in contents], bool)
    held_out = np.array(
        [
            by_file.get((uri, content), by_content.get(content)) == "test"
            for uri, content in zip(truth.uri, contents, strict=True)
        ],
        bool,
    )
    trained_on = {content for content, name in by_content.items() if name in _SEEN}
    return TrainingOverlap(
        known=np.array([content in by_content for content in contents], bool),
        seen=seen,
        copy_seen=seen | recorded | np.isin(truth.group, truth.group[seen]),
        held_out=held_out,
        trained_on=len(trained_on),
        present=len(trained_on.intersection(contents)),
    )


def choose_sets(
    truth: Truth, overlap: TrainingOverlap | None, split: str | None, *, data: str, models: Sequence[str]
) -> tuple[list[ImageSet], list[Missing]]:
    """The sets a model can be measured on, and why it cannot on the others.

    Args:
        overlap: None where the bundle has no split.parquet.
        split: how it was trained, `folders` or `group`; None where that is not recorded.
        data, models: the labelled data and the bundles as the user named them, for the commands.
    """
    if overlap is None:
        return _of_unknown_memory(truth, data, models)
    if not overlap.known.any():
        elsewhere = "none of these images is in the model's record of its training: they are new to it"
        return [_new(truth, overlap)], [Missing(key=key, reason=elsewhere) for key in (PUBLISHED, CLEAN, GROUP)]
    sets: list[ImageSet] = []
    missing: list[Missing] = []
    as_published = overlap.held_out.any() and not (overlap.held_out & ~truth.published_test).any()
    if split == "folders" or (split is None and as_published):
        if truth.published_test.any():
            sets += [_published(truth, overlap), _clean(truth, overlap)]
        else:
            missing += [Missing(key=key, reason="the data names no test images") for key in (PUBLISHED, CLEAN)]
        missing.append(
            Missing(key=GROUP, reason="the model was trained with --split folders", commands=_commands(data, models, "group"))
        )
    else:
        trained = int((overlap.seen & truth.published_test).sum())
        reason = "the model was trained with --split group" + (
            f", on {trained:,} of the {truth.published_test.sum():,} published test images" if trained else ""
        )
        available = truth.published_test.any()
        for key in (PUBLISHED, CLEAN):
            missing.append(
                Missing(key=key, reason=reason, commands=_commands(data, models, "folders"))
                if available
                else Missing(key=key, reason="the data names no test images")
            )
        if overlap.held_out.any():
            sets.append(_group(truth, overlap))
        else:
            nothing = "the model held out none of these images (after --folds it learned from all: folds.html beside it has its figures)"
            missing.append(Missing(key=GROUP, reason=nothing))
    if (~overlap.known & truth.readable()).any():
        sets.append(_new(truth, overlap))
    return sets, missing


def _commands(data: str, models: Sequence[str], split: str) -> tuple[str, ...]:
    """How to get a bundle trained on the other split, and its number beside those that there are."""
    where, given = shlex.quote(data), " ".join(shlex.quote(model) for model in models)
    return (
        f"btc-ray retrain --data {where} --split {split} --output BUNDLE",
        f"btc-ray evaluate --model {given} BUNDLE --data {where} --output DIR",
    )


def _published(truth: Truth, overlap: TrainingOverlap) -> ImageSet:
    unrecorded = int((truth.published_test & ~overlap.known & truth.readable()).sum())
    more = (f"{unrecorded:,} of them are not in the model's record: files that came or changed since",) if unrecorded else ()
    return _described(PUBLISHED, truth.published_test, truth, overlap, {}, more)


def _clean(truth: Truth, overlap: TrainingOverlap) -> ImageSet:
    copies = truth.published_test & overlap.copy_seen
    clashing = truth.published_test & ~overlap.copy_seen & truth.contradicting
    left_out = {"trained on, or with a copy that is": int(copies.sum()), "whose copies bear another label": int(clashing.sum())}
    return _described(CLEAN, truth.published_test & ~copies & ~clashing, truth, overlap, left_out)


def _group(truth: Truth, overlap: TrainingOverlap) -> ImageSet:
    copies = overlap.held_out & overlap.copy_seen  # none, unless copies are found that were not found when it was trained
    clashing = overlap.held_out & ~copies & truth.contradicting
    left_out = {"with a copy that was trained on": int(copies.sum()), "whose copies bear another label": int(clashing.sum())}
    return _described(GROUP, overlap.held_out & ~copies & ~clashing, truth, overlap, left_out)


def _new(truth: Truth, overlap: TrainingOverlap) -> ImageSet:
    # A file that cannot be read has no bytes to be known by: it is a row of this set only where all of the data is new.
    new = ~overlap.known & (truth.readable() | ~overlap.known.any())
    copies, clashing = new & overlap.copy_seen, new & ~overlap.copy_seen & truth.contradicting
    more: tuple[str, ...] = ()
    if overlap.present < overlap.trained_on:
        more = (
            f"copies can be found only where both images are among the data, which holds {overlap.present:,} of the "
            f"{overlap.trained_on:,} images that the model trained on",
        )
    left_out = {"with a copy that was trained on": int(copies.sum()), "whose copies bear another label": int(clashing.sum())}
    return _described(NEW, new & ~copies & ~clashing, truth, overlap, left_out, more)


def _described(
    key: str, rows: np.ndarray, truth: Truth, overlap: TrainingOverlap, left_out: Mapping[str, int], more: tuple[str, ...] = ()
) -> ImageSet:
    total, seen, copied = int(rows.sum()), int((rows & overlap.seen).sum()), int((rows & overlap.copy_seen).sum())
    clashing = int((rows & truth.contradicting).sum())
    remarks = [
        f"{copied:,} of {total:,} have a copy among the images that the model trained on"
        if copied
        else "none has a copy among the images that the model trained on"
    ]
    if seen:
        remarks.append(f"{seen:,} are byte for byte images that it trained on")
    if clashing:
        remarks.append(f"{clashing:,} have a copy with another label")
    return ImageSet(
        key=key,
        rows=rows,
        seen=seen,
        copy_seen=copied,
        contradicting=clashing,
        left_out={reason: images for reason, images in left_out.items() if images},
        remarks=(*remarks, *more),
    )


def _of_unknown_memory(truth: Truth, data: str, models: Sequence[str]) -> tuple[list[ImageSet], list[Missing]]:
    """A bundle without split.parquet: one number, and the word unknown beside it."""
    key = PUBLISHED if truth.published_test.any() else ALL
    rows = truth.published_test if key == PUBLISHED else np.ones(len(truth.uri), bool)
    remarks = ["the bundle does not record which images it was trained on: whether these are among them is unknown"]
    if key == PUBLISHED:
        copied = int((rows & np.isin(truth.group, truth.group[~rows])).sum())
        remarks.append(f"{copied:,} of {rows.sum():,} have a copy outside the folder Testing")
    clashing = int((rows & truth.contradicting).sum())
    if clashing:
        remarks.append(f"{clashing:,} have a copy with another label")
    reason = "the bundle does not record which images it was trained on"
    missing = [Missing(key=CLEAN, reason=reason, commands=_commands(data, models, "folders"))] if key == PUBLISHED else []
    if key == ALL:
        missing = [Missing(key=name, reason="the data names no test images") for name in (PUBLISHED, CLEAN)]
    missing.append(Missing(key=GROUP, reason=reason, commands=_commands(data, models, "group")))
    only = ImageSet(key=key, rows=rows, seen=None, copy_seen=None, contradicting=clashing, left_out={}, remarks=tuple(remarks))
    return [only], missing
