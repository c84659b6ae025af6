"""Pseudonyms, and whose series they are: patients, exams, conflicts."""

import stat
from pathlib import Path

import pytest

from btc_ray.errors import UserError
from btc_ray.storage import Place
from btc_ray.studies.keys import ENVIRONMENT, Identity, Pseudonyms, open_key, who

ONE = Pseudonyms(b"0123456789abcdef")


def one(
    series: str, patient: str | None = "P1", study: str = "s1", date: str | None = "20200101", **other: str | None
) -> Identity:
    values = {"issuer": None, "birth_date": None, "sex": None} | other
    return Identity(series=series, patient_id=patient, study_uid=study, study_date=date, **values)


def test_a_pseudonym_is_the_first_16_hex_of_the_hmac() -> None:
    import hashlib
    import hmac

    assert ONE.key("patient", "P1") == hmac.new(b"0123456789abcdef", b"patientP1", hashlib.sha256).hexdigest()[:16]
    assert ONE.key("patient", "P1") != ONE.key("exam", "P1")
    assert ONE.key("patient", "P1") != Pseudonyms(b"another key, also long").key("patient", "P1")
    assert ONE.uri("/a/b.dcm", 7) == f"dicom:{ONE.key('file', '/a/b.dcm')}#7"
    assert "0123456789" not in repr(ONE)


def test_the_runs_own_key_is_made_once_and_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    private = Place(str(tmp_path / "private"))
    first = open_key(file=None, private=private)
    assert open_key(file=None, private=private) == first
    assert stat.S_IMODE((tmp_path / "private" / "key").stat().st_mode) == 0o600
    assert open_key(file=None, private=Place(str(tmp_path / "other"))) != first


def test_a_given_key_links_runs_and_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "k").write_text("a key of enough length\n")
    private = Place(str(tmp_path / "private"))
    given = open_key(file=Place(str(tmp_path / "k")), private=private)
    monkeypatch.setenv(ENVIRONMENT, "a key of enough length")
    assert open_key(file=None, private=private) == given
    assert not (tmp_path / "private").exists()


def test_a_short_key_is_refused_without_being_shown(tmp_path: Path) -> None:
    (tmp_path / "k").write_text("short")
    with pytest.raises(UserError) as refused:
        open_key(file=Place(str(tmp_path / "k")), private=Place(str(tmp_path)))
    assert "short\n" not in str(refused.value)
    assert "openssl" in str(refused.value)


def test_studies_of_one_patient_on_one_date_are_one_exam() -> None:
    people = who([one("a", study="s1"), one("b", study="s2"), one("c", study="s3", date="20200301")])
    assert people.exam["a"] == people.exam["b"] != people.exam["c"]
    assert len(set(people.patient.values())) == 1
    assert (people.number[people.exam["a"]], people.number[people.exam["c"]]) == (1, 2)


def test_studies_without_a_date_stay_apart() -> None:
    people = who([one("a", study="s1", date=None), one("b", study="s2", date=None)])
    assert people.exam["a"] != people.exam["b"]


@pytest.mark.parametrize("placeholder", [None, "", "  ", "ANON", "0", "0000", "anonymous", "UNKNOWN", "xxx"])
def test_a_placeholder_is_no_patient(placeholder: str | None) -> None:
    people = who([one("a", patient=placeholder, study="s1"), one("b", patient=placeholder, study="s2")])
    assert people.patient["a"] != people.patient["b"]
    assert not people.conflicts


def test_one_id_of_two_people_is_a_conflict_and_its_studies_are_not_merged() -> None:
    people = who([one("a", sex="M"), one("b", study="s2", sex="F")])
    assert people.conflicts == {people.patient["a"]}
    assert people.exam["a"] != people.exam["b"]


def test_one_id_of_very_many_people_is_a_placeholder() -> None:
    people = who([one(str(n), study=f"s{n}", date=f"2020{n:04d}", birth_date=str(1900 + n)) for n in range(21)])
    assert len(set(people.patient.values())) == 21
    assert not people.conflicts


def test_one_study_of_two_patients_is_a_conflict_of_both() -> None:
    people = who([one("a", patient="P1"), one("b", patient="P2")])
    assert people.conflicts == {people.patient["a"], people.patient["b"]}


def test_the_issuer_tells_two_hospitals_ids_apart() -> None:
    people = who([one("a", issuer="X"), one("b", issuer="Y", study="s2")])
    assert people.patient["a"] != people.patient["b"]


def test_the_order_of_the_files_changes_nothing() -> None:
    ones = [one("a"), one("b", study="s2"), one("c", patient="P2", study="s3", date="20190101")]
    assert who(ones) == who(ones[::-1])
