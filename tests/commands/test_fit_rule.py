"""`btc-ray evaluate --fit-rule`: a scored archive and labels of its patients become a rule in the bundle, and series have labels by it."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from btc_ray.cli import main
from btc_ray.model.bundle import bundle_id, read_bundle
from btc_ray.storage import Place
from tests.commands.bundles import deciding_bundle
from tests.leaks import leaks
from tests.scoring.runs import rows, score, state
from tests.studies.made import enhanced

PATIENTS, SLICES, SIDE = 64, 5, 64


@pytest.fixture(scope="module")
def deciding(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of random weights with thresholds that reject nothing, which learned from one file of the archive."""
    return deciding_bundle(model, tmp_path_factory.mktemp("ruled") / "model", accept_distance=1e3, reject_distance=1e4)


@pytest.fixture(scope="module")
def home(deciding: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of 64 patients, every second one's heads of another shape, scored; and a table of labels by patient."""
    home = tmp_path_factory.mktemp("labelled")
    (home / "archive").mkdir()
    random, (y, x) = np.random.default_rng(0), np.mgrid[:SIDE, :SIDE] - SIDE / 2
    lines = ["patient_id,label"]
    for number in range(PATIENTS):
        name, ill = f"LEAK{number:03d}", number % 2 == 0
        head = (x**2 + (1 if ill else 3) * y**2 < (SIDE / 2.5) ** 2) * 800 + (y > 0) * ill * 300
        pixels = (head + random.integers(0, 80, (SLICES, SIDE, SIDE))).astype(np.uint16)
        tags = {"PatientID": name, "PatientName": name, "StudyInstanceUID": f"1.{number}", "SeriesInstanceUID": f"1.{number}.1"}
        data = enhanced([5.0 * at for at in range(SLICES)], Rows=SIDE, Columns=SIDE, PixelData=pixels.tobytes(), **tags)
        (home / "archive" / name).write_bytes(data)
        lines.append(f"{name},{('tumour', 'glioma')[number % 4 == 0] if ill else 'notumor'}")
    lines.append("LEAKNOBODY,notumor")
    (home / "labels.csv").write_text("\n".join(lines))
    assert score(deciding, [home / "archive"], home / "run") == 0
    first = rows(home / "run")["content_sha256"][0]
    split = {"uri": ["x"], "content_sha256": [f"{first}#0"], "split": ["train"], "group": [0]}
    pq.write_table(pa.table(split), deciding / "split.parquet")
    return home


@pytest.fixture(scope="module")
def said(home: Path, deciding: Path) -> str:
    """What the command says."""
    import contextlib
    import io

    sink = io.StringIO()
    with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        assert main(["evaluate", "--run", str(home / "run"), "--labels", str(home / "labels.csv"), "--fit-rule"]) == 0
    return sink.getvalue()


def test_before_there_is_a_rule_no_series_has_a_label(home: Path, said: str) -> None:
    """The run was scored before the rule was fitted, and fitting it changes none of its tables."""
    assert pq.read_table(home / "run" / "series")["label"].null_count == PATIENTS
    assert state(home / "run")["series_rule"] == {}


def test_the_rule_is_measured_on_patients_and_those_that_trained_the_model_are_left_out(home: Path, said: str) -> None:
    record = json.loads((home / "run" / "rule.json").read_text())
    assert record["left_out"] == {"the patient trained the model": 1}
    found = record["measured"]
    assert (found["exams"], found["patients"], found["patients_with_tumour"]) == (PATIENTS - 1, PATIENTS - 1, PATIENTS // 2 - 1)
    assert found["auroc"]["value"] > 0.9  # the heads differ, and so does what a random network makes of them
    assert "left out: 1 exams × the patient trained the model" in said
    assert "Rows of --labels that name no series, exam or patient of the run: 1." in said
    assert re.search(r"sensitivity +\d", said)


def test_the_rule_stands_in_the_bundle_and_changes_no_row(home: Path, said: str, deciding: Path) -> None:
    bundle = read_bundle(Place(str(deciding)))
    assert bundle.decision["series_rule"]["kind"] in ("mean", "share", "run", "logistic")
    assert bundle_id(bundle) == state(home / "run")["fingerprint"]["bundle"]
    assert score(deciding, [home / "archive"], home / "run") == 0  # the run still belongs to the bundle


def test_a_run_begun_with_the_rule_labels_series_and_exams(home: Path, said: str, deciding: Path) -> None:
    some = sorted((home / "archive").iterdir())[:6]
    assert score(deciding, some, home / "later") == 0
    for name in ("series", "exams"):
        found = pq.read_table(home / "later" / name).to_pandas()
        assert set(found["label"]) == {"tumour", "notumor"}
        assert found["confidence"].between(0.5, 1).all()
        assert set(found["decision"]) == {"review"}
        assert found["rule"].str.fullmatch(r"(mean|share|run|logistic)-[0-9a-f]{8}").all()
    assert main(["review", "--run", str(home / "later")]) == 0
    assert "the labels are those of a rule" in (home / "later" / "exams.html").read_text()


def test_a_run_of_before_is_labelled_by_group(home: Path, said: str, deciding: Path) -> None:
    run = Path(shutil.copytree(home / "run", home / "grouped"))
    for rule in (run / "rule.json", deciding):
        assert main(["group", "--run", str(run), "--rule", str(rule)]) == 0
        labelled = pq.read_table(run / "series")["label"].to_pylist()
        assert set(labelled) == {"tumour", "notumor"}
        assert main(["group", "--run", str(run)]) == 0  # the run keeps it
        assert pq.read_table(run / "series")["label"].to_pylist() == labelled


def test_nobody_is_named_where_the_rule_is_written(home: Path, said: str, deciding: Path) -> None:
    assert not re.search("LEAK", said.replace(str(home), ""))
    assert leaks(home / "run") == []
    assert leaks(deciding) == []


def refused(home: Path, capsys: pytest.CaptureFixture[str], text: str, *flags: str) -> str:
    (home / "other.csv").write_text(text)
    assert main(["evaluate", "--run", str(home / "run"), "--labels", str(home / "other.csv"), "--fit-rule", *flags]) == 2
    said = capsys.readouterr().err
    assert "LEAK" not in said.replace(str(home), "")
    return said


def test_too_few_patients_and_labels_that_are_no_class_are_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there are 1 and 1" in refused(home, capsys, "patient_id,label\nLEAK002,glioma\nLEAK003,notumor\n")
    assert "no class of the model" in refused(home, capsys, "patient_id,label\nLEAK001,LEAKWORD\n")
    assert not (home / "other.json").exists()


def test_a_rule_of_another_model_is_refused(home: Path, said: str, other_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert score(other_model, sorted((home / "archive").iterdir())[:2], home / "others") == 0
    assert main(["group", "--run", str(home / "others"), "--rule", str(home / "run" / "rule.json")]) == 2
    assert "fit one for it" in capsys.readouterr().err
    assert "name its bundle with --model" in refused(
        home, capsys, "patient_id,label\nLEAK002,glioma\n", "--model", str(other_model)
    )
    assert main(["group", "--run", str(home / "others"), "--rule", str(other_model)]) == 2
    assert "has no rule" in capsys.readouterr().err


def test_labels_that_the_evidence_does_not_know_leave_the_bundle_as_it_is(home: Path, deciding: Path, tmp_path: Path) -> None:
    lines = ["patient_id,label"] + [f"LEAK{n:03d},{'glioma' if n % 4 < 2 else 'notumor'}" for n in range(PATIENTS)]
    (tmp_path / "chance.csv").write_text("\n".join(lines))
    before = (deciding / "bundle.json").read_bytes()
    flags = ["--labels", str(tmp_path / "chance.csv"), "--fit-rule", "--output", str(tmp_path / "out")]
    assert main(["evaluate", "--run", str(home / "run"), *flags]) == 5
    assert json.loads((tmp_path / "out" / "rule.json").read_text())["rule"] is None
    assert (deciding / "bundle.json").read_bytes() == before


def test_a_signed_bundle_stays_as_it_is(home: Path, said: str, deciding: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (deciding / "model.sig").write_text("{}")
    before = (deciding / "bundle.json").read_bytes()
    try:
        assert main(["evaluate", "--run", str(home / "run"), "--labels", str(home / "labels.csv"), "--fit-rule"]) == 0
    finally:
        (deciding / "model.sig").unlink()
    assert (deciding / "bundle.json").read_bytes() == before
    assert "is signed" in capsys.readouterr().err


def test_an_archive_that_is_not_scored_yet_is_scored_first(home: Path, deciding: Path, tmp_path: Path) -> None:
    flags = ["--model", str(deciding), "--data", str(home / "archive"), "--labels", str(home / "labels.csv"), "--fit-rule"]
    assert main(["evaluate", *flags, "--output", str(tmp_path / "out")]) == 0
    assert state(tmp_path / "out" / "run")["complete"]
    assert json.loads((tmp_path / "out" / "rule.json").read_text())["measured"]["patients"] == PATIENTS - 1
