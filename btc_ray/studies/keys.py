"""Pseudonyms: what stands in shared tables in place of UIDs, patients and paths.

The first 16 hex digits of HMAC-SHA256(key, level + value): the same key gives the same ones on any machine, another key others.
"""

import hmac
import os
import re
import secrets
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal

from btc_ray.errors import UserError
from btc_ray.storage import Place

Level = Literal["patient", "exam", "series", "image", "file"]
ENVIRONMENT = "BTC_RAY_PSEUDONYM_KEY"
KEY_FILE = "key"
SHORTEST_KEY = 16  # bytes: what cannot be guessed
MOST_EXAMS = 20  # one id of more, whose sex or birth differ, is many people
_PLACEHOLDER = re.compile(
    r"0*|x+|-+|\?+|none|null|nan?|unknown|test|anon\w*|de-?identified|patient|no_?id|removed",
    re.IGNORECASE,
)


class PseudonymKeyError(UserError):
    """A pseudonym key that cannot be used. Its text never holds the key."""


@dataclass(frozen=True)
class Pseudonyms:
    """Makes pseudonyms with one key, which no representation shows."""

    secret: bytes = field(repr=False)

    def key(self, level: Level, value: str) -> str:
        """16 hex digits for a value of a level."""
        return hmac.new(self.secret, (level + value).encode("utf-8", "surrogateescape"), sha256).hexdigest()[:16]

    def uri(self, path: str, frame: int | None = None, *, kind: str = "dicom") -> str:
        """What stands for a file's path, or one frame of it, outside the private part: `dicom:<hmac>#7`."""
        return f"{kind}:{self.key('file', path)}" + ("" if frame is None else f"#{frame}")


def open_key(*, file: Place | None, private: Place) -> Pseudonyms:
    """The key of `file`, else of the environment, else the one in the run's private folder, which is made at random the first time.

    Raises UserError where a key is named that is not there or too short.
    """
    if file is not None:
        return Pseudonyms(_checked(file.read().strip(), "--pseudonym-key"))
    if ENVIRONMENT in os.environ:
        return Pseudonyms(_checked(os.environ[ENVIRONMENT].encode().strip(), ENVIRONMENT))
    place = private / KEY_FILE
    if not place.exists():
        write_private(place, secrets.token_hex(32).encode())
    return Pseudonyms(_checked(place.read().strip(), "the run's own key"))


def write_private(place: Place, data: bytes) -> None:
    """Write a file that on this machine only its owner may read, in a folder that only its owner may enter."""
    if not place.is_local:
        place.write(data)
        return
    path = place.path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as sink:
        sink.write(data)


def _checked(secret: bytes, source: str) -> bytes:
    if len(secret) < SHORTEST_KEY:
        raise PseudonymKeyError(f"{source} is shorter than {SHORTEST_KEY} bytes: make one with `openssl rand -hex 32`.")
    return secret


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Whose one series is, as its header says."""

    patient_id: str | None
    issuer: str | None
    birth_date: str | None
    sex: str | None
    study_uid: str | None
    study_date: str | None
    series: str  # UID, or what stands for it


@dataclass(frozen=True, kw_only=True)
class People:
    """What the identities of a whole archive come to, by series: values of patients and exams, to be made keys of."""

    patient: dict[str, str]
    exam: dict[str, str]
    number: dict[str, int]  # exam value → its place among its patient's, from 1
    conflicts: frozenset[str]  # patient values: one id of two people, or one study of two ids


def who(identities: Iterable[Identity]) -> People:
    """Patients and exams of an archive.

    A patient is IssuerOfPatientID and PatientID; where that is no id of a person, the exam. An exam is all studies of one patient on
    one date (some archives split an examination), else the study.
    """
    found = sorted(identities, key=lambda one: one.series)
    by_id: dict[str, list[Identity]] = defaultdict(list)
    for one in found:
        if person := _person(one):
            by_id[person].append(one)
    differing = {person for person, ones in by_id.items() if _several_people(ones)}
    placeholders = {person for person in differing if len({_study(one) for one in by_id[person]}) > MOST_EXAMS}
    patient: dict[str, str] = {}
    exam: dict[str, str] = {}
    dates: dict[str, tuple[str, str]] = {}
    ids_of_study: dict[str, set[str]] = defaultdict(set)
    for one in found:
        person = _person(one)
        if person in placeholders:
            person = None
        study = _study(one)
        merged = f"{person}\0{one.study_date}" if person and one.study_date and person not in differing else study
        exam[one.series] = merged
        patient[one.series] = person or f"exam\0{study}"
        dates[merged] = min(dates.get(merged, (one.study_date or "", study)), (one.study_date or "", study))
        if person and one.study_uid:
            ids_of_study[one.study_uid].add(person)
    shared = {person for people in ids_of_study.values() if len(people) > 1 for person in people}
    exams_of: dict[str, set[str]] = defaultdict(set)
    for series, merged in exam.items():
        exams_of[patient[series]].add(merged)
    number = {
        merged: place
        for exams in exams_of.values()
        for place, merged in enumerate(sorted(exams, key=lambda one: (dates[one], one)), start=1)
    }
    return People(patient=patient, exam=exam, number=number, conflicts=frozenset((differing - placeholders) | shared))


def _person(one: Identity) -> str | None:
    trimmed = (one.patient_id or "").strip()
    if not trimmed or _PLACEHOLDER.fullmatch(trimmed):
        return None
    return f"{(one.issuer or '').strip()}\0{trimmed}"


def _study(one: Identity) -> str:
    return one.study_uid or f"series\0{one.series}"


def _several_people(ones: list[Identity]) -> bool:
    births = {one.birth_date for one in ones if one.birth_date}
    sexes = {one.sex for one in ones if one.sex in ("M", "F")}
    return len(births) > 1 or len(sexes) > 1
