"""Readers' answers laid over labelled images: an answer beats a folder's label, and images of the archive that was read come in.

What readers call no head, are unsure of, or contradict each other about is not learned from: it is left out, counted aloud.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from btc_ray.archive.reader import ByteReader
from btc_ray.archive.tables import folder_of, placed
from btc_ray.dataset.answers import NO_CLASS, Answer, AnswersError, read_answers, say_contradictions, settle
from btc_ray.dataset.table import SCHEMA, located_uris
from btc_ray.progress import Progress, say
from btc_ray.storage import Place

SLICES = "a slice of a DICOM or NIfTI file: training takes pictures"
CONTRADICTED = "readers contradict each other"
PSEUDONYM = "not in --data, and of a private run, which does not say where it is"
CHANGED = "not in --data, and not what was answered about where its uri says"

_PSEUDONYM = re.compile(r"\w+:[0-9a-f]{16}")


@dataclass(frozen=True, kw_only=True)
class Answered:
    """The labelled table that is learned from, and what became of the answers: `answers`, `readers`, `relabelled`, `confirmed`,
    `added` and `left_out`, the last by reason."""

    table: pa.Table
    counts: dict[str, Any]


def with_answers(table: pa.Table, data: Place, answers: Sequence[str]) -> Answered:
    """`table` with the answers of the tables `answers`, joined by the sha256 of the images' bytes, for which each file is read once.

    An image that is not in the table is added from the URI of its answer, in no split and no group, where its bytes are those that were
    answered about. Says what changed. Raises AnswersError, also where no answer is about an image that can be had.

    Args:
        table: as `read_labelled` gives it.
        answers: URIs of CSV or Parquet tables; a relative `uri` in them begins in the table's folder.
    """
    read: list[Answer] = []
    for uri in answers:
        here = data.at(uri)
        read += [_placed(answer, here) for answer in read_answers([here])]
    settled = settle(answer for answer in read if not answer.is_slice)
    say_contradictions(settled)
    left_out = Counter({SLICES: sum(answer.is_slice for answer in read)})
    agreed = {answer.content_sha256: answer for answer in settled.answers}
    disputed = {ones[0].content_sha256 for ones in settled.contradictions}
    contents = _contents(table.to_pylist(), data, "Looked for answered images")
    known = set(contents)
    labels, kept, changed = table["label"].to_pylist(), [], Counter[str]()
    for row, content in enumerate(contents):
        answer = agreed.get(content or "")
        if content in disputed:
            left_out[CONTRADICTED] += 1
        elif answer is not None and answer.answer in NO_CLASS:
            left_out[answer.answer] += 1
        else:
            kept.append(row)
            if answer is not None:
                changed["confirmed" if labels[row] == answer.answer else "relabelled"] += 1
                labels[row] = answer.answer
    elsewhere = [answer for content, answer in agreed.items() if content not in known]
    left_out.update(answer.answer for answer in elsewhere if answer.answer in NO_CLASS)
    left_out[CONTRADICTED] += len(disputed - known)
    added, lost = _added([answer for answer in elsewhere if answer.answer not in NO_CLASS], data, first=len(table))
    left_out += lost
    if not changed.total() and not len(added) and len(kept) == len(table):
        why = "; ".join(f"{count:,} × {reason}" for reason, count in left_out.items() if count)
        raise AnswersError(
            f"--answers {' '.join(answers)}: no answer is about an image of {data} or one that can be read ({why})."
        )
    column = table.schema.get_field_index("label")
    table = table.set_column(column, SCHEMA.field("label"), pa.array(labels, pa.string())).take(pa.array(kept, pa.int64()))
    counts = {
        "answers": len(read),
        "readers": len({answer.reader for answer in read}),
        "relabelled": changed["relabelled"],
        "confirmed": changed["confirmed"],
        "added": len(added),
        "left_out": {reason: count for reason, count in sorted(left_out.items()) if count},
    }
    _say(counts)
    return Answered(table=pa.concat_tables([table, added]), counts=counts)


def _placed(answer: Answer, table: Place) -> Answer:
    if not answer.uri or _PSEUDONYM.match(answer.uri):
        return answer
    return answer.at(placed(folder_of(table.absolute().uri), answer.uri))


def _added(answers: Sequence[Answer], data: Place, *, first: int) -> tuple[pa.Table, Counter[str]]:
    """The images of `answers` as rows of SCHEMA, numbered from `first` on, and why others cannot be had."""
    lost: Counter[str] = Counter()
    named = [answer for answer in answers if answer.uri and not _PSEUDONYM.match(answer.uri)]
    lost[PSEUDONYM] = len(answers) - len(named)
    found = located_uris([answer.uri for answer in named], data)
    contents = _contents(found, data, "Read answered images") if found else []
    rows: list[dict[str, object]] = []
    for answer, row, content in zip(named, found, contents, strict=True):
        if content == answer.content_sha256:
            rows.append({**row, "row_id": first + len(rows), "label": answer.answer})
        else:
            lost[CHANGED] += 1
    return pa.Table.from_pylist(rows, schema=SCHEMA), lost


def _contents(rows: Sequence[Mapping[str, Any]], data: Place, word: str) -> list[str | None]:
    """The sha256 of the bytes of manifest rows, None where they cannot be read."""
    found: list[str | None] = []
    with Progress(word, len(rows)) as progress:
        for content in ByteReader(data.options).read_many(rows):
            bad = isinstance(content, Exception)
            found.append(None if isinstance(content, Exception) else hashlib.sha256(content).hexdigest())
            progress.advance(1, int(bad))
    return found


def _say(counts: Mapping[str, Any]) -> None:
    say(
        f"{counts['answers']:,} answers of {counts['readers']:,} readers: {counts['relabelled']:,} labels changed, "
        f"{counts['confirmed']:,} confirmed, {counts['added']:,} images added from the archive that was read."
    )
    for reason, count in counts["left_out"].items():
        say(f"left out: {count:,} × {reason}")
