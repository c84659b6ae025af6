"""What a model makes of images by where they come from: a model that goes by the source shows it here, and nowhere on its own data."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from btc_ray.dataset.meaning import classes_meant, without_tumour
from btc_ray.model.bundle import Bundle
from btc_ray.model.reference import ACCEPT
from btc_ray.reports.shared.bootstrap import grouped_share
from btc_ray.storage.redact import public_uri


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Labelled images with their sources: N rows. `uri`, `label`, `source` object (N,); `group` int64 (N,), equal for images that are
    not independent."""

    uri: np.ndarray
    label: np.ndarray
    source: np.ndarray
    group: np.ndarray

    @classmethod
    def of(cls, tables: Mapping[str, pa.Table]) -> "Elsewhere":
        """Tables of `dataset.table.SCHEMA` by the name that stands for the source of images which do not say theirs."""
        rows = [
            (name, row) for name, table in tables.items() for row in table.select(["uri", "label", "group", "source"]).to_pylist()
        ]
        names = [
            f"{name} {row['group']}" if row["group"] is not None else f"row {number}" for number, (name, row) in enumerate(rows)
        ]
        return cls(
            uri=np.array([row["uri"] for _, row in rows], object),
            label=np.array([row["label"] for _, row in rows], object),
            source=np.array([name if row["source"] is None else _of_set(name, row["source"]) for name, row in rows], object),
            group=np.unique(np.array(names, str), return_inverse=True)[1].astype(np.int64),
        )


def assess_sources(
    asked: Elsewhere, scores: pa.Table, bundle: Bundle, *, trained_on: frozenset[str] = frozenset()
) -> list[dict[str, Any]]:
    """`assess_answers` of the scores of a run of the bundle, whose rows are found by `uri`.

    Args:
        trained_on: sha256 of the files that the model learned from: such an image is left out and counted.
    """
    place = {uri: number for number, uri in enumerate(scores["uri"].to_pylist())}
    order = np.array([place.get(public_uri(uri), -1) for uri in asked.uri], np.int64)
    column = {
        name: np.array([None, *scores[name].to_pylist()], object)[order + 1]
        if name in scores.column_names
        else np.full(len(order), None)
        for name in ("status", "label", "decision", "content_sha256")
    }
    return assess_answers(
        asked,
        column["label"],
        column["decision"],
        bundle.classes,
        scored=column["status"] == "ok",
        seen=np.array([content in trained_on for content in column["content_sha256"]], bool),
    )


def assess_answers(
    asked: Elsewhere,
    said: np.ndarray,
    decisions: np.ndarray,
    classes: Sequence[str],
    *,
    scored: np.ndarray | None = None,
    seen: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """A record for each source, in the order of their names: counts, and figures with 95 % intervals resampled by group.

    `accuracy` is of images whose label is one class; `tumour_sensitivity` of all that show a tumour, whatever its kind: the share not
    called the class without one; `specificity` of the others. `accepted_share` is of all scored images of a known label, and
    `error_among_accepted` counts an answer as wrong that is none of the classes its label may mean.

    Args:
        said, decisions: object (N,), class and decision of each image of `asked`; None where there is none.
        classes: of the model.
        scored, seen: bool (N,), which have an answer, and which the model learned from; by default all, and none.
    """
    everyone = np.ones(len(asked.uri), bool)
    scored, seen = everyone if scored is None else scored, ~everyone if seen is None else seen
    return [
        {"source": str(name)} | _one(asked, asked.source == name, scored, seen, said, decisions, classes)
        for name in sorted(set(asked.source.tolist()))
    ]


def _one(
    asked: Elsewhere,
    mine: np.ndarray,
    scored: np.ndarray,
    seen: np.ndarray,
    said: np.ndarray,
    decisions: np.ndarray,
    classes: Sequence[str],
) -> dict[str, Any]:
    none = without_tumour(classes)
    meanings = {label: classes_meant(label, classes) for label in set(asked.label[mine].tolist())}
    scored = mine & scored
    known = np.array([bool(meanings.get(label)) for label in asked.label], bool)
    rows = np.flatnonzero(scored & known & ~seen)
    said, decisions, groups = said[rows], decisions[rows], asked.group[rows]
    meant = [meanings[label] for label in asked.label[rows]]
    right = np.array([answer in found for answer, found in zip(said, meant, strict=True)], bool)
    exact = np.array([len(found) == 1 for found in meant], bool)
    healthy = np.array([none is not None and found == {none} for found in meant], bool)
    tumour = np.array([none is not None and none not in found for found in meant], bool)
    decided = any(decisions)
    accepted = decisions == ACCEPT
    no_none = "no images" if none is not None else "the model has no class without a tumour"
    share = "the bundle has no thresholds" if not decided and len(rows) else "no images"
    return {
        "images": int(mine.sum()),
        "labels": dict(sorted(Counter(asked.label[mine].tolist()).items())),
        "not_ok": int((mine & ~scored).sum()),
        "trained_on": int((scored & seen).sum()),
        "labels_unknown_to_the_model": dict(sorted(Counter(asked.label[scored & ~known & ~seen].tolist()).items())),
        "measured": len(rows),
        "of_one_class": int(exact.sum()),
        "tumours": int(tumour.sum()),
        "without_tumour": int(healthy.sum()),
        "called": {name: int((said == name).sum()) for name in classes},
        "accuracy": grouped_share(right[exact], groups[exact], missing="no label is one class"),
        "tumour_sensitivity": grouped_share(said[tumour] != none, groups[tumour], missing=no_none),
        "specificity": grouped_share(said[healthy] == none, groups[healthy], missing=no_none),
        "accepted": int(accepted.sum()) if decided else None,
        "wrong_among_accepted": int((accepted & ~right).sum()) if decided else None,
        "accepted_share": grouped_share(accepted if decided else accepted[:0], groups if decided else groups[:0], missing=share),
        "error_among_accepted": grouped_share(
            ~right[accepted], groups[accepted], missing="nothing is accepted" if decided else share
        ),
    }


def _of_set(name: str, source: str) -> str:
    """A source of a set that has several; the set's own name where there is none, as for the labelled data itself."""
    return f"{name}: {source}" if name else source


def in_words(found: Mapping[str, Any]) -> str:
    """A source in one line of text."""
    parts = [f"{found['measured']:,} images"]
    for key, name in (("accuracy", "accuracy"), ("tumour_sensitivity", "tumour sensitivity"), ("specificity", "specificity")):
        if found[key]["value"] is not None:
            parts.append(f"{name} {found[key]['value']:.1%}")
    if found["accepted"] is not None:
        parts.append(f"{found['accepted']:,} accepted, {found['wrong_among_accepted']:,} of them wrong")
    if unknown := sum(found["labels_unknown_to_the_model"].values()):
        parts.append(f"{unknown:,} of labels that the model does not know")
    return f"{found['source']}: {', '.join(parts)}"
