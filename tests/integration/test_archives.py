"""Every job on an archive of DICOM: cropped, learned from, measured, audited and compared, and nobody's name outside `private`."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from btc_ray.cli import main
from btc_ray.images.prepare import Preprocess, prepare
from btc_ray.phantoms.phantom import LABELS, make_phantom
from tests.integration.trainings import HEAD
from tests.leaks import leaks
from tests.studies.made import dicom

pytestmark = pytest.mark.ray

PATIENTS, SLICES, SIDE = 4, 3, 96


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms as DICOM: four patients of each class with three slices each, a localiser, and a table of labels by patient."""
    home = tmp_path_factory.mktemp("archives")
    lines = ["patient_id,label"]
    for number, (label, patient) in enumerate((label, patient) for label in LABELS for patient in range(PATIENTS)):
        name = f"LEAK{label[:2].upper()}{patient}"
        lines.append(f"{name},{label}")
        tags = {"PatientID": name, "PatientName": name, "StudyInstanceUID": f"1.{number}", "SeriesInstanceUID": f"1.{number}.1"}
        (home / "LEAKS" / name).mkdir(parents=True)
        for at in range(SLICES):
            pixels = make_phantom(label, seed=10 * number + at, view="axial", size=(SIDE, SIDE)).pixels.astype(np.uint16) * 8
            data = dicom((0, 0, 5.0 * at), Rows=SIDE, Columns=SIDE, PixelData=pixels.tobytes(), InstanceNumber=at + 1, **tags)
            (home / "LEAKS" / name / f"IM{at}").write_bytes(data)
    (home / "LEAKS" / "localiser").write_bytes(dicom(PatientID="LEAKX", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    (home / "LEAKS" / "broken.dcm").write_bytes(b"")
    (home / "labels.csv").write_text("\n".join(lines))
    return home


@pytest.fixture(scope="module")
def key(archive: Path) -> tuple[str, str]:
    (archive / "key").write_text("one key that is long enough")
    return "--pseudonym-key", str(archive / "key")


def job(name: str, archive: Path, output: Path, *flags: str) -> int:
    data = ["--data", str(archive / "LEAKS"), "--labels", str(archive / "labels.csv")]
    return main([name, *data, "--output", str(output), "--cache", str(archive / "cache"), *flags])


def said_nothing(capfd: pytest.CaptureFixture[str], archive: Path) -> bool:
    return not re.search("LEAK", "".join(capfd.readouterr()).replace(str(archive), ""))


@pytest.fixture(scope="module")
def trained(archive: Path, backbone: Path, key: tuple[str, str], ray_here: None) -> Path:
    assert job("retrain", archive, archive / "model", *HEAD, "--weights", str(backbone), "--series", "plane=axial", *key) == 0
    return archive / "model"


def test_a_model_learns_from_an_archive_and_no_patient_is_on_two_sides(trained: Path, archive: Path) -> None:
    bundle = json.loads((trained / "bundle.json").read_text())
    assert bundle["data"]["patients"] == len(LABELS) * PATIENTS
    assert bundle["data"]["images_with_patient"] == len(LABELS) * PATIENTS * SLICES
    split = pq.read_table(trained / "split.parquet").to_pandas()
    assert split.groupby("group")["split"].nunique().max() == 1
    assert split["uri"].str.fullmatch("dicom:[0-9a-f]{16}").all()
    assert leaks(trained) == []
    assert leaks(archive / "cache") == []


def test_its_images_are_those_of_scoring(trained: Path, archive: Path, tmp_path: Path, key: tuple[str, str]) -> None:
    run = ["score", "--model", str(trained), "--input", str(archive / "LEAKS"), "--output", str(tmp_path / "run"), *key]
    assert main(run) in (0, 3)
    scored = pq.read_table(tmp_path / "run" / "scores").to_pandas()
    learned = pq.read_table(trained / "split.parquet").to_pandas()
    assert set(learned["uri"]) <= set(scored["uri"])
    assert set(learned["content_sha256"]) <= set(scored["content_sha256"])
    assert json.loads((trained / "bundle.json").read_text())["preprocess_id"] == scored["preprocess_id"].iloc[0]


def test_it_is_measured_on_the_slices_that_are_labelled(
    trained: Path, archive: Path, tmp_path: Path, key: tuple[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert job("evaluate", archive, tmp_path / "out", "--model", str(trained), "--series", "plane=axial", *key) == 0
    assert said_nothing(capfd, archive)
    record = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    (measured,) = [one for one in record["models"][0]["sets"] if one["key"] == "held_out"] or record["models"][0]["sets"][:1]
    held_out = pq.read_table(trained / "split.parquet").to_pandas().query("split == 'test'")
    assert measured["metrics"]["images"] == len(held_out)
    assert measured["not_ok"] == 0
    scores = pq.read_table(tmp_path / "out" / "run" / "scores").to_pandas()
    assert scores["series_key"].notna().all()
    assert leaks(tmp_path / "out") == []
    assert (
        "data:image" in (tmp_path / "out" / "evaluation.html").read_text()
        or len(pq.read_table(tmp_path / "out" / "errors.parquet")) == 0
    )


def test_it_is_audited(
    archive: Path, tmp_path: Path, key: tuple[str, str], ray_here: None, capfd: pytest.CaptureFixture[str]
) -> None:
    assert job("audit", archive, tmp_path / "out", "--weights", "none", *key) == 0
    assert said_nothing(capfd, archive)
    record = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert record["data"]["patients"]["named"] == len(LABELS) * PATIENTS
    assert record["data"]["images"] == record["data"]["readable"] == len(LABELS) * PATIENTS * SLICES
    assert leaks(tmp_path / "out") == []


def test_an_archive_is_cropped_as_it_is_scored(
    archive: Path, tmp_path: Path, key: tuple[str, str], ray_here: None, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert main(["crop", "--input", str(archive / "LEAKS"), "--output", str(output), "--size", "64", *key]) == 0
    assert said_nothing(capfd, archive)
    crops = pq.read_table(output / "crops").to_pandas()
    assert sorted(crops["status"].unique()) == ["ok", "unreadable"]
    assert crops["series_key"].nunique() == len(LABELS) * PATIENTS
    manifest = {row["row_id"]: row["uri"] for row in pq.read_table(output / "private" / "manifest").to_pylist()}
    for row in crops[crops["status"] == "ok"].head(5).to_dict("records"):
        expected = prepare(Path(manifest[row["row_id"]]).read_bytes(), Preprocess(size=64)).pixels
        assert expected is not None
        assert row["pixels"] == expected.tobytes()
    assert sorted(path.name for path in output.iterdir()) == ["crops", "doubtful.png", "private"]
    assert leaks(output) == []


def test_recipes_are_compared_on_it(
    archive: Path, backbone: Path, tmp_path: Path, key: tuple[str, str], ray_here: None, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "grid.yaml").write_text("{optimizer: [sgd, nadam], learning_rate: [0.01], epochs: [2]}")
    flags = ["--grid", str(tmp_path / "grid.yaml"), "--seeds", "2", "--size", "64", "--weights", str(backbone)]
    assert job("experiments", archive, tmp_path / "out", *flags, *key) == 0
    assert said_nothing(capfd, archive)
    record = json.loads((tmp_path / "out" / "summary.json").read_text())
    sides = record["counts"]
    assert sum(sum(sides[side].values()) for side in ("train", "validation", "test")) == len(LABELS) * PATIENTS * SLICES
    whole_patients = [count % SLICES == 0 for side in ("train", "validation", "test") for count in sides[side].values()]
    assert all(whole_patients)
    rows = pq.read_table(tmp_path / "out" / "experiments.parquet").to_pandas()
    assert rows.groupby("experiment")["seed"].nunique().tolist() == [2, 2]
    assert "LEAKS" not in json.dumps(record)
    assert leaks(tmp_path / "out") == []
    assert leaks(archive / "cache") == []


def test_ray_wrote_down_nobody_of_all_these_jobs(trained: Path, ray_session: Path) -> None:
    """After the others, whose logs these are, under the names of patients."""
    assert list((ray_session / "logs").glob("worker-*"))
    assert leaks(ray_session, "(?-i:LEAK[A-Z]{2}[0-9])") == []
