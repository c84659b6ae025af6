"""Words planted wherever an archive can hold one: none stands in what may be shared, is printed, is in an error with --debug, or in what
Ray writes down."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from pydicom import dcmread, dcmwrite
from pydicom.datadict import dictionary_VR
from pydicom.filebase import DicomBytesIO

from btc_ray.cli import main
from tests.conftest import Bucket
from tests.leaks import leaks
from tests.scoring.runs import score, state
from tests.scoring.test_dicom_run import slices
from tests.studies.made import head, nifti

WORDS = "LEAK|19310203|919319131"
TEXTS = (
    "PatientName", "PatientID", "IssuerOfPatientID", "OtherPatientIDs", "PatientAddress", "PatientComments", "ReferringPhysicianName",
    "PerformingPhysicianName", "OperatorsName", "InstitutionName", "InstitutionAddress", "StationName", "DeviceSerialNumber",
    "StudyDescription", "SeriesDescription", "ProtocolName", "StudyID", "AccessionNumber", "RequestedProcedureDescription",
    "AdditionalPatientHistory", "ImageComments", "ManufacturerModelName", "SoftwareVersions", "SequenceName", "ContrastBolusAgent",
    "BodyPartExamined", "Manufacturer", "Modality", "ImageType",
)  # fmt: skip
DATES = ("PatientBirthDate", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
SECRET = "LEAKING secret of the key"  # so that the key is looked for too


def planted(data: bytes, number: int) -> bytes:
    """The slice with a word in every text, date, UID and private tag."""
    dataset = dcmread(DicomBytesIO(data))
    for keyword in TEXTS:
        if keyword not in ("Modality", "ImageType", "BodyPartExamined"):  # these are words of the standard, and chosen by
            setattr(dataset, keyword, "LEAK" if dictionary_VR(keyword) in ("CS", "SH") else f"LEAK {keyword}")
    for keyword in DATES:
        setattr(dataset, keyword, "19310203")
    dataset.SOPInstanceUID, dataset.SeriesInstanceUID, dataset.StudyInstanceUID = (
        f"1.919319131.{number}",
        "1.919319131.9",
        "1.919319131",
    )
    block = dataset.private_block(0x0011, "LEAK CREATOR", create=True)
    block.add_new(0x01, "LO", "LEAK PRIVATE")
    dataset.BodyPartExamined = "HEAD"
    sink = DicomBytesIO()
    dcmwrite(sink, dataset)
    return sink.getvalue()


def write_archive(folder: Path) -> Path:
    """Slices, a localiser, broken files of each kind, a volume and a zip, all under names that are somebody's."""
    mine = folder / "LEAK^JOHN 19310203"
    mine.mkdir(parents=True)
    for number, data in enumerate(slices(6)):
        (mine / f"LEAK IM{number}.dcm").write_bytes(planted(data, number))
    (mine / "LEAK localiser").write_bytes(slices(1, SeriesInstanceUID="1.9", SeriesDescription="LEAK scout")[0])
    whole = planted(slices(1)[0], 90)
    for name, data in {
        "cut": whole[:-900],
        "head": whole[:700],
        "empty": b"",
        "page": b"<html>LEAK</html>",
        "mark": whole[:140],
    }.items():
        (mine / f"LEAK {name}.dcm").write_bytes(data)
    (mine / "LEAK_T1w.nii").write_bytes(nifti(head()))
    (mine / "LEAK_cut.nii.gz").write_bytes(b"\x1f\x8bLEAK")
    (mine / "LEAK gone.png").symlink_to(folder / "LEAK nowhere.png")
    with zipfile.ZipFile(mine / "LEAK studies.zip", "w") as container:
        container.writestr("919319131 LEAK^JOHN/19310203/LEAK1", planted(slices(1)[0], 91))
        container.writestr("919319131 LEAK^JOHN/broken.dcm", whole[:300])
    (mine / "LEAK bad.zip").write_bytes(b"PK LEAK")
    (mine / "LEAK.csv").write_text("LEAK,919319131")
    return folder


def said(capfd: pytest.CaptureFixture[str], *but: Path | str) -> str:
    """What was printed, less paths that a person typed."""
    text = "".join(capfd.readouterr())
    for path in but:
        text = text.replace(str(path), "")
    return text


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BTC_RAY_PSEUDONYM_KEY", SECRET)
    return write_archive(tmp_path / "in")


def test_no_planted_word_leaves_the_private_folder_by_any_job_on_a_run(
    model: Path, archive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run, again = tmp_path / "run", tmp_path / "again"
    assert score(model, [archive], run, "--debug", "--max-bad-fraction", "1") == 0
    assert not re.search(WORDS, said(capfd, tmp_path))
    assert leaks(run, WORDS) == []
    assert {"ok", "unreadable", "failed"} <= set(state(run)["counts"]["status"])
    for job in (["review", "--run", str(run)], ["group", "--run", str(run)], ["info", str(run)], ["info", str(run), "--json"]):
        assert main([*job, "--debug"]) == 0
        assert not re.search(WORDS, said(capfd, tmp_path)), job
    assert leaks(run, WORDS) == []
    assert score(model, [archive], again, "--max-bad-fraction", "1") == 0
    assert main(["info", "--compare", str(run), str(again), "--debug"]) == 0
    assert main(["info", "--runs", str(run), str(again), "--json"]) == 0
    assert not re.search(WORDS, said(capfd, tmp_path))
    assert state(run)["fingerprint"]["inputs"][0].startswith("sha256:")


def test_the_shared_part_alone_is_enough_for_info_review_and_compare(
    model: Path, archive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert score(model, [archive], run, "--max-bad-fraction", "1") == 0
    shutil.rmtree(run / "private")
    shutil.rmtree(archive)
    assert main(["info", str(run)]) == 0
    assert main(["review", "--run", str(run)]) == 0
    assert "No picture" in (run / "exams.html").read_text()
    assert main(["info", "--compare", str(run), str(run)]) == 0
    assert leaks(run, WORDS) == []
    assert not re.search(WORDS, said(capfd, tmp_path))


def test_errors_name_tags_and_no_values_with_debug_too(
    model: Path, archive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mine = next(archive.iterdir())
    typed = ["--input", str(archive), "--output", str(tmp_path / "run"), "--model", str(model), "--debug"]
    (mine / "labels.csv").write_text("patient_id,label\nLEAK PatientID,glioma\nLEAK PatientID,notumor\nLEAK nobody,glioma\n")
    labelled = ["--data", str(archive), "--labels", str(mine / "labels.csv"), "--output", str(tmp_path / "out"), "--debug"]
    jobs = {
        "a word that is none": ["score", *typed, "--series", "LEAKY=1"],
        "nothing selected": ["score", *typed, "--series", "plane=coronal"],
        "labels that contradict each other": ["evaluate", "--model", str(model), *labelled],
        "nobody labelled": ["evaluate", "--model", str(model), *labelled, "--fit-rule"],
        "no private run": ["evaluate", "--run", str(tmp_path / "none"), "--labels", str(mine / "labels.csv"), "--fit-rule"],
    }
    for name, job in jobs.items():
        assert main(job) in (2, 3), name
        assert not re.search(WORDS, said(capfd, tmp_path, mine, mine.name, "LEAKY")), name
        assert leaks(tmp_path / "out", WORDS) == [], name
        shutil.rmtree(tmp_path / "out", ignore_errors=True)


def test_pictures_alone_are_private_where_that_is_asked_for(
    model: Path, phantoms: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in" / "LEAK^JOHN").mkdir(parents=True)
    for number, path in enumerate(sorted((phantoms / "Testing" / "glioma").iterdir())[:3]):
        shutil.copy(path, tmp_path / "in" / "LEAK^JOHN" / f"919319131-{number}{path.suffix}")
    (tmp_path / "in" / "LEAK^JOHN" / "919319131.jpg").write_bytes(b"\xff\xd8\xff LEAK")
    assert score(model, [tmp_path / "in"], tmp_path / "run", "--privacy", "on", "--debug") == 0
    assert main(["review", "--run", str(tmp_path / "run")]) == 0
    assert leaks(tmp_path / "run", WORDS) == []
    assert not re.search(WORDS, said(capfd, tmp_path))


def test_keys_of_a_bucket_stay_private(model: Path, bucket: Bucket, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number, data in enumerate(slices(5)):
        bucket.put(f"in/LEAK^JOHN/19310203/LEAK{number}", planted(data, number))
    bucket.put("in/LEAK^JOHN/LEAK.dcm", b"LEAK")
    options = [f"{name}={value}" for name, value in bucket.options.items()]
    flags = ["--storage-options", *options, "--debug"]
    assert score(model, [f"{bucket.uri}/in"], tmp_path / "run", *flags) == 0
    assert leaks(tmp_path / "run", WORDS) == []
    assert not re.search(WORDS, said(capfd, tmp_path))


@pytest.mark.ray
@pytest.mark.parametrize("job", ["score", "crop"])
def test_no_planted_word_is_in_what_ray_writes_down(model: Path, archive: Path, tmp_path: Path, job: str) -> None:
    """Logs of its services and workers, events, and whatever else a session has on the disk, with --debug."""
    command = [sys.executable, "-m", "btc_ray.cli", job, "--input", str(archive), "--output", str(tmp_path / "run"), "--debug"]
    command += ["--model", str(model), "--local-rows", "0", "--max-bad-fraction", "1"] if job == "score" else ["--size", "64"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with TemporaryDirectory(prefix="ray") as sessions:  # a short name: Ray's sockets stand below it
        done = subprocess.run(command, env=environment | {"RAY_TMPDIR": sessions}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        (session,) = (path for path in Path(sessions).rglob("session_*") if path.is_dir() and not path.is_symlink())
        written = [path for path in (session / "logs").rglob("*") if path.is_file() and path.stat().st_size]
        assert any(path.name.startswith("worker-") for path in written)
        assert leaks(session, f"(?-i:{WORDS})") == []  # its own words may be of leaks of memory
    assert not re.search(WORDS, (done.stdout + done.stderr).replace(str(tmp_path), ""))
    assert leaks(tmp_path / "run", WORDS) == []
