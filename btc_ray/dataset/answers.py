"""A reader's answers, as the review page saves them in `answers.csv`: read, held against each other, never taken for a formula.

An image is told by the sha256 of its bytes, and a slice of a DICOM or NIfTI file by its URI too. Of one reader's answers to one row the
latest counts. Readers who contradict each other about an image are counted and listed, and none of them is believed.
"""

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

from btc_ray.archive.tables import TableError, table_parts, table_rows
from btc_ray.errors import UserError
from btc_ray.progress import say
from btc_ray.storage import Place

COLUMNS = ("row_id", "uri", "content_sha256", "label", "answer", "reader", "time", "run", "model_id")
NOT_A_HEAD, UNSURE = "not a head", "unsure"
NO_CLASS = (NOT_A_HEAD, UNSURE)
"""Answers that name no class."""

LISTED = 10  # contradictions that are said in words

# What spreadsheets take for a formula: OWASP, CSV Injection, https://owasp.org/www-community/attacks/CSV_Injection.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_SLICE = re.compile(r"(?:dicom|nifti):|.*#(?:frame|slice)=\d+$", re.DOTALL)


class AnswersError(UserError):
    """A table of answers that cannot be used."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one reader said of one image.

    Attributes:
        row_id: of the run, None where the table does not say it.
        label: the class that the page showed; `answer`: a class, or one of NO_CLASS.
        time: when, as ISO 8601 in UTC, of which the latest counts.
        run: `run_id` of the run that was reviewed, empty where the table does not say it.
    """

    row_id: int | None
    uri: str
    content_sha256: str
    label: str
    answer: str
    reader: str
    time: str
    run: str

    @property
    def is_slice(self) -> bool:
        """Whether it is about one slice of a file that holds several."""
        return _SLICE.match(self.uri) is not None

    @property
    def image(self) -> tuple[str, str]:
        """What it is about: the bytes, and which slice of them."""
        return self.content_sha256, self.uri if self.is_slice else ""

    def at(self, uri: str) -> "Answer":
        """The same answer, its image at another URI."""
        return replace(self, uri=uri)


@dataclass(frozen=True, kw_only=True)
class Settled:
    """Answers that were held against each other: one for each thing that was asked about, and what nobody agrees on."""

    answers: tuple[Answer, ...]
    contradictions: tuple[tuple[Answer, ...], ...]


def meant(cell: str) -> str:
    """A cell as it was meant: the page writes an apostrophe before what a spreadsheet would take for a formula."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def read_answers(tables: Sequence[Place]) -> list[Answer]:
    """The answers of all `tables`, in their order: CSV or Parquet with `content_sha256` and `answer` and the others of COLUMNS.

    Raises AnswersError for a table that cannot be read, that lacks a column or a cell, or where no table has an answer.
    """
    found: list[Answer] = []
    for table in tables:
        try:
            for part, _ in table_parts(table.uri, table.options) or [(table.uri, {})]:
                wanted = [name for name in COLUMNS if name not in ("content_sha256", "answer")]
                for where, row in table_rows(
                    part, table.options, needed=("content_sha256", "answer"), wanted=wanted, strict=True
                ):
                    found.append(_answer(row, f"{table}: {where}"))
        except TableError as error:
            raise AnswersError(f"--answers {table} {error}.") from error
    if not found:
        raise AnswersError(f"--answers {' '.join(map(str, tables))}: there is no answer in it. Is it what the review page saved?")
    return found


def _answer(row: dict[str, str | None], where: str) -> Answer:
    cells = {name: meant(row.get(name) or "") for name in COLUMNS}
    for name in ("content_sha256", "answer"):
        if not cells[name].strip():
            raise AnswersError(f"--answers {where} has no {name}.")
    row_id = cells["row_id"].strip()
    if row_id and not row_id.isdecimal():
        raise AnswersError(f"--answers {where}: row_id {row_id[:30]!r} is no number.")
    return Answer(
        row_id=int(row_id) if row_id else None,
        content_sha256=cells["content_sha256"].strip().lower(),
        answer=cells["answer"].strip(),
        **{name: cells[name] for name in ("uri", "label", "reader", "time", "run")},
    )


def settle(answers: Iterable[Answer], about: Callable[[Answer], Hashable] = lambda answer: answer.image) -> Settled:
    """One answer for each thing that `about` names, in the order in which they first come.

    Of one reader's answers to one row of one run the latest counts, and of two at the same time the later in the table. Where what is
    left differs, nobody is believed. Who is unsure contradicts nobody.
    """
    latest: dict[Hashable, Answer] = {}
    for answer in answers:
        asked = (answer.reader, answer.run, answer.row_id, answer.image)
        if asked not in latest or answer.time >= latest[asked].time:
            latest[asked] = answer
    by_thing: dict[Hashable, list[Answer]] = {}
    for answer in latest.values():
        by_thing.setdefault(about(answer), []).append(answer)
    agreed, contradictions = [], []
    for ones in by_thing.values():
        sure = [one for one in ones if one.answer != UNSURE] or ones
        if len({one.answer for one in sure}) > 1:
            contradictions.append(tuple(sure))
        else:
            agreed.append(sure[0])
    return Settled(answers=tuple(agreed), contradictions=tuple(contradictions))


def say_contradictions(settled: Settled) -> None:
    """Say how many images readers do not agree on, and which: LISTED of them."""
    if not settled.contradictions:
        return
    say(f"left out: {len(settled.contradictions):,} images of which readers contradict each other:")
    for ones in settled.contradictions[:LISTED]:
        said = ", ".join(f"{one.reader or 'a reader'} says {one.answer}" for one in ones)
        say(f"  {ones[0].uri or ones[0].content_sha256}: {said}")
    if len(settled.contradictions) > LISTED:
        say(f"  … and {len(settled.contradictions) - LISTED:,} others")


def counted(answers: Iterable[Answer]) -> dict[str, int]:
    """Answers of each kind, the classes by name and then NO_CLASS."""
    counts = Counter(answer.answer for answer in answers)
    return {name: counts[name] for name in (*sorted(set(counts) - set(NO_CLASS)), *NO_CLASS) if counts[name]}
