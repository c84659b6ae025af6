"""A folder of DICOM scored as a user does: a row a slice, series and exams, and no path or name outside RUN/private."""

import re
import shutil
import zipfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from btc_ray.cli import main
from btc_ray.studies.indexing import studies_are_read
from tests.conftest import SHARED
from tests.leaks import leaks
from tests.scoring.runs import rows, score, state
from tests.studies.made import dicom, enhanced

pytestmark = pytest.mark.skipif(not studies_are_read(), reason="no format of images.formats reads DICOM")

SIDE = 64


def slices(count: int, **tags: object) -> list[bytes]:
    """Slices with a bright disc, 5 mm apart, the highest first."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    disc = ((x**2 + y**2 < (SIDE / 3) ** 2) * 1000).astype(np.uint16)
    return [
        dicom((0, 0, -5.0 * n), Rows=SIDE, Columns=SIDE, PixelData=(disc + n).tobytes(), InstanceNumber=n + 1, **tags)
        for n in range(count)
    ]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Six slices of a series, two localisers, a report, a page and a file without an extension that is none of these."""
    folder = tmp_path / "LEAKMANN_PATH"
    folder.mkdir()
    for number, data in enumerate(slices(6, PatientName="LEAKMANN", PatientID="LEAK77", SeriesDescription="t1 LEAKMANN")):
        (folder / f"IM{number:04d}").write_bytes(data)
    for number, data in enumerate(slices(2, SeriesInstanceUID="9", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])):
        (folder / f"loc{number}.dcm").write_bytes(data)
    (folder / "LEAK_report.txt").write_text("LEAK")
    (folder / "page.dcm").write_text("<html>LEAK</html>")
    (folder / "notes").write_text("none of these")
    return folder


def test_a_folder_of_dicom_is_a_row_a_slice_a_series_and_an_exam(model: Path, archive: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert score(model, [archive], run) == 0
    found = rows(run)
    assert list(found["status"]) == ["ok"] * 6 + ["unreadable"]
    assert list(found["slice_index"][:6]) == [5, 4, 3, 2, 1, 0]
    assert set(found["plane"][:6]) == {"axial"}
    assert found["uri"].str.fullmatch(r"(dicom|file):[0-9a-f]{16}").all()
    series = pq.read_table(run / "series").to_pandas().sort_values("selected", ascending=False)
    assert list(series["reason"].fillna("none")) == ["none", "localiser"]
    assert (series.iloc[0]["n_used"], series.iloc[0]["decision"]) == (6, "review")
    assert series["label"].isna().all()
    assert len(pq.read_table(run / "exams")) == 2
    assert state(run)["studies"]["unselected"] == {"localiser": 1}
    assert state(run)["skipped"]["series not selected: localiser"]["count"] == 2


def test_nothing_outside_private_holds_a_name_a_path_or_an_identifier(
    model: Path, archive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert score(model, [archive], run) == 0
    said = "".join(capfd.readouterr()).replace(str(tmp_path), "")
    assert leaks(run) == []
    assert not re.search("LEAK", said)


@pytest.mark.shared
def test_planted_names_of_the_shared_archive_stay_private(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = SHARED / "data" / "dicom" / "made" / "phi"
    if not source.exists():
        pytest.skip("needs ../shared/data/dicom, which a fresh clone does not have")
    zipped, run = tmp_path / "studies.zip", tmp_path / "run"
    with zipfile.ZipFile(zipped, "w") as container:
        for path in sorted(source.rglob("*")):
            if path.is_file():
                container.write(path, path.relative_to(source))
    assert score(model, [zipped], run) == 0
    words = "leak|leakmann|zebulon|7734|19310203"
    assert leaks(run, words) == []
    assert not re.search(words, "".join(capfd.readouterr()), re.IGNORECASE)


def test_a_zip_gives_the_rows_of_its_folder(model: Path, archive: Path, tmp_path: Path) -> None:
    zipped = tmp_path / "x.zip"
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as container:
        for path in sorted(archive.iterdir()):
            container.write(path, path.name)
    assert score(model, [archive], tmp_path / "a") == 0
    assert score(model, [zipped], tmp_path / "b") == 0
    columns = ["status", "slice_index", "content_sha256", "label"]
    assert rows(tmp_path / "a")[columns].equals(rows(tmp_path / "b")[columns])


def test_pictures_beside_dicom_are_scored_too(model: Path, archive: Path, phantoms: Path, tmp_path: Path) -> None:
    picture = next((phantoms / "Testing" / "glioma").iterdir())
    (archive / f"LEAK{picture.suffix}").write_bytes(picture.read_bytes())
    assert score(model, [archive], tmp_path / "run") == 0
    found = rows(tmp_path / "run")
    assert found["kind"].isna().sum() == 2  # the picture, and the page that is called DICOM
    assert (found["status"] == "ok").sum() == 7
    assert leaks(tmp_path / "run") == []


def test_frames_of_one_file_are_rows_in_order_of_position(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "enhanced").write_bytes(enhanced([10, 5, 0]))
    assert score(model, [tmp_path / "in"], tmp_path / "run", "--privacy", "off") in (0, 3)
    found = rows(tmp_path / "run")
    assert [uri.rpartition("#")[2] for uri in found["uri"]] == ["frame=0", "frame=1", "frame=2"]
    assert list(found["slice_index"]) == [2, 1, 0]


def test_the_same_instance_twice_counts_once(model: Path, archive: Path, tmp_path: Path) -> None:
    (archive / "again").write_bytes((archive / "IM0000").read_bytes())
    assert score(model, [archive], tmp_path / "run") == 0
    assert rows(tmp_path / "run")["duplicate_of"].notna().sum() == 1
    assert max(pq.read_table(tmp_path / "run" / "series")["n_used"].to_pylist()) == 6


def test_nothing_selected_is_refused_with_the_reasons(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(dicom(BodyPartExamined="KNEE"))
    assert score(model, [tmp_path / "in"], tmp_path / "run") == 2
    assert "1 × other body part" in capsys.readouterr().err
    assert score(model, [tmp_path / "in"], tmp_path / "other", "--series", "all") in (0, 3)


def test_studies_without_a_scored_series_may_be_too_many(model: Path, archive: Path, tmp_path: Path) -> None:
    for path in archive.glob("loc*"):
        path.unlink()
    localiser = slices(1, SeriesInstanceUID="9", StudyInstanceUID="8", StudyDate="20210101", SeriesDescription="scout")
    (archive / "scout").write_bytes(localiser[0])
    assert score(model, [archive], tmp_path / "run", "--max-unselected-fraction", "0.1") == 3


def test_the_tables_are_made_again_without_the_model(model: Path, archive: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert score(model, [archive], run) == 0
    before = pq.read_table(run / "series"), pq.read_table(run / "exams")
    for name in ("series", "exams"):
        (run / name / "part-00000.parquet").unlink()
    assert main(["group", "--run", str(run)]) == 0
    assert before[0].equals(pq.read_table(run / "series"))
    assert before[1].equals(pq.read_table(run / "exams"))


def test_one_key_links_two_runs_and_another_does_not(
    model: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BTC_RAY_PSEUDONYM_KEY", raising=False)
    (tmp_path / "key").write_text("one key that is long enough")
    for name, flags in (
        ("a", ("--pseudonym-key", str(tmp_path / "key"))),
        ("b", ("--pseudonym-key", str(tmp_path / "key"))),
        ("c", ()),
    ):
        assert score(model, [archive], tmp_path / name, *flags) == 0
    keys = [list(rows(tmp_path / name)["series_key"].dropna()) for name in "abc"]
    assert keys[0] == keys[1] != keys[2]
    assert not any("long enough" in path.read_text("latin-1") for path in (tmp_path / "a").rglob("*") if path.is_file())


def test_slices_that_were_chosen_before_are_scored_under_the_same_names(model: Path, archive: Path, tmp_path: Path) -> None:
    """As `btc-ray evaluate` does, whose labels choose the slices."""
    from btc_ray.dataset.archived import read_archive
    from btc_ray.dataset.table import entries_of
    from btc_ray.scoring.run import score as run
    from btc_ray.settings import Labelled, Score
    from btc_ray.storage import Place

    (tmp_path / "labels.csv").write_text("patient_id,label,first_slice,last_slice\nLEAK77,glioma,1,3\n")
    chosen = Labelled(data=str(archive), output="out", labels=str(tmp_path / "labels.csv"))
    table = read_archive(Place(str(archive)), chosen, cpus=1, private=Place(str(tmp_path / "private")))
    job = Score(model=str(model), input=("labelled",), output=str(tmp_path / "run"), engine="torch")
    state = run(job, cpus=1, ray_session=nullcontext, entries=entries_of(table))
    found = rows(tmp_path / "run")
    assert list(found["uri"]) == table["uri"].to_pylist()
    assert list(found["series_key"]) == table["series_key"].to_pylist()
    assert list(found["status"]) == ["ok"] * 3
    assert state.private
    assert leaks(tmp_path / "run") == []


def test_a_dry_run_counts_series_by_reason_and_writes_and_names_nothing(
    model: Path, archive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert score(model, [archive], tmp_path / "run", "--dry-run") == 0
    said = capfd.readouterr()
    assert "7 images" in said.out
    assert "2 series of 2 studies: 1 selected, 1 not: 1 × localiser." in said.out
    assert "1 of 2 studies has no scored series." in said.out
    assert "2 would be skipped: series not selected: localiser" in said.out
    assert "on this machine" in said.out
    assert not (tmp_path / "run").exists()
    assert not re.search("LEAK", (said.out + said.err).replace(str(archive), ""))


def test_the_summary_says_which_series_are_not_scored(model: Path, archive: Path, tmp_path: Path) -> None:
    assert score(model, [archive], tmp_path / "run") == 0
    page = (tmp_path / "run" / "summary.html").read_text()
    assert "1 selected, 1 not: 1 × localiser." in page
    assert "1 of 2 studies has no scored series." in page
    assert "data:image/jpeg" in page


def test_a_review_shows_exams_with_their_slices_and_no_name(
    model: Path, archive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert score(model, [archive], run) == 0
    assert main(["review", "--run", str(run)]) == 0
    page = (run / "exams.html").read_text()
    assert re.findall(r'alt="slice (\d+)"', page) == ["0", "1", "2", "3", "4", "5"]
    assert "no: localiser" in page
    assert leaks(run) == []
    said = capfd.readouterr()
    assert str(run / "exams.html") in said.out
    assert not re.search("LEAK", (said.out + said.err).replace(str(tmp_path), ""))


def test_pages_show_no_series_that_may_have_a_name_burned_in(model: Path, archive: Path, tmp_path: Path) -> None:
    for number, data in enumerate(slices(6, PatientID="LEAK77", BurnedInAnnotation="YES")):
        (archive / f"IM{number:04d}").write_bytes(data)
    run = tmp_path / "run"
    assert score(model, [archive], run) == 0
    assert main(["review", "--run", str(run)]) == 0
    for name in ("summary.html", "review.html", "exams.html"):
        page = (run / name).read_text()
        assert "data:image" not in page
        assert "a name may be burned into the picture" in page


def test_a_frame_is_shown_and_not_the_first_of_its_file(model: Path, tmp_path: Path) -> None:
    from btc_ray.archive.reader import ByteReader
    from btc_ray.scoring.folder import RunFolder
    from btc_ray.scoring.pictures import Pictures
    from btc_ray.storage import Place

    pixels = np.zeros((3, SIDE, SIDE), np.uint16)
    for number in range(3):
        pixels[number, 10 * number : 10 * number + 10] = 500
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "e").write_bytes(enhanced([0, 5, 10], Rows=SIDE, Columns=SIDE, PixelData=pixels.tobytes()))
    assert score(model, [tmp_path / "in"], tmp_path / "run") in (0, 3)
    shown = Pictures(RunFolder(Place(str(tmp_path / "run"))), ByteReader(), hidden=())
    pictures = [np.asarray(shown({"row_id": number})) for number in range(3)]
    assert [int(picture[:, 5].argmax()) for picture in pictures] == [0, 10, 20]


@pytest.mark.ray
def test_ray_gives_the_same_rows(model: Path, archive: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("one key that is long enough")
    key = ("--pseudonym-key", str(tmp_path / "key"))
    assert score(model, [archive], tmp_path / "here", *key) == 0
    assert score(model, [archive], tmp_path / "ray", *key, "--local-rows", "0") == 0
    columns = ["uri", "status", "error", "slice_index", "series_key", "image_key", "label", "window_high"]
    assert rows(tmp_path / "here")[columns].equals(rows(tmp_path / "ray")[columns])
    assert leaks(tmp_path / "ray") == []


def test_a_second_night_knows_the_slices_and_stays_private(
    model: Path, archive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert score(model, [archive], tmp_path / "1") == 0
    (archive / "IM0006").write_bytes(slices(7)[6])
    run = tmp_path / "2"
    assert score(model, [archive], run, "--known", str(tmp_path / "1")) == 0
    assert rows(run)["status"].tolist() == ["ok", "unreadable"]
    assert state(run)["known"]["files"] == 6
    assert (run / "private" / "known.parquet").exists()
    assert not (run / "known.parquet").exists()
    assert leaks(run) == []
    (archive / "page.dcm").unlink()
    assert score(model, [archive], tmp_path / "3", "--known", str(tmp_path / "1"), str(run)) == 0
    assert len(rows(tmp_path / "3")) == 0
    assert leaks(tmp_path / "3") == []
    shutil.rmtree(tmp_path / "1" / "private")
    assert score(model, [archive], tmp_path / "4", "--known", str(tmp_path / "1")) == 0
    assert "their manifest is not there" in capfd.readouterr().err
    assert len(rows(tmp_path / "4")) == 7
