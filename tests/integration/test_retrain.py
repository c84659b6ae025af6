"""From labelled images to a bundle that scores as well as it says, on a real Ray; killed, continued, and compared with a champion."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from btc_ray.cli import main
from btc_ray.model.bundle import read_bundle
from tests.scoring.runs import rows, score

pytestmark = pytest.mark.ray

HEAD = ("--train", "head", "--size", "64", "--epochs", "4", "--learning-rate", "0.01")
WHOLE = ("--train", "all", "--size", "48", "--resolutions", "32", "48", "--epochs", "4", "--batch-size", "8")


@pytest.fixture(scope="module")
def bundle(phantoms: Path, tmp_path_factory: pytest.TempPathFactory, ray_here: None) -> Path:
    folder = tmp_path_factory.mktemp("retrain") / "model"
    assert retrain(phantoms, folder) == 0
    return folder


def arguments(data: Path, output: Path, *flags: str) -> list[str]:
    return ["retrain", "--data", str(data), "--weights", "none", "--output", str(output), *(flags or HEAD)]


def retrain(data: Path, output: Path, *flags: str) -> int:
    return main(arguments(data, output, *flags))


def test_a_bundle_has_everything_the_contract_names(bundle: Path) -> None:
    for name in (
        "model.safetensors",
        "bundle.json",
        "model_card.md",
        "metrics.parquet",
        "split.parquet",
        "reference.safetensors",
    ):
        assert (bundle / name).stat().st_size > 0
    assert {path.name for path in (bundle / "figures").iterdir()} == {"learning_curve.png", "confusion_test.png"}
    assert list((bundle / "tensorboard").glob("events.*"))
    content = json.loads((bundle / "bundle.json").read_text())
    assert content["classes"] == ["glioma", "meningioma", "notumor", "pituitary"]
    assert content["data"]["test"] == dict.fromkeys(content["classes"], 3)  # a fifth of 15
    assert sum(sum(content["data"][split].values()) for split in ("train", "validation", "test")) == 60
    assert content["temperature"] > 0
    assert content["decision"]["accept_distance"] <= content["decision"]["reject_distance"]
    history = pq.read_table(bundle / "metrics.parquet").to_pylist()
    assert [(row["epoch"], row["split"]) for row in history] == [
        (epoch, split) for epoch in range(1, 5) for split in ("train", "validation")
    ]


def test_scoring_the_held_out_images_gives_the_accuracy_that_training_reported(
    bundle: Path, phantoms: Path, tmp_path: Path
) -> None:
    held_out = pq.read_table(bundle / "split.parquet").to_pandas().query("split == 'test'")
    assert score(bundle, [phantoms], tmp_path / "run") == 0
    table = rows(tmp_path / "run").set_index("uri").loc[held_out["uri"]]
    accuracy = (table["label"].to_numpy() == held_out["label"].to_numpy()).mean()
    assert accuracy == pytest.approx(read_bundle(str(bundle)).metrics["test"]["accuracy"], abs=0.005)
    assert set(table["decision"]) <= {"accept", "review", "reject"}
    assert (table["feature_distance"] > 0).all()
    assert main(["review", "--run", str(tmp_path / "run"), "--model", str(bundle)]) == 0
    record = json.loads((tmp_path / "run" / "review.json").read_text())
    assert sum(record["decisions"].values()) == record["scored"] == len(pq.read_table(tmp_path / "run" / "worklist.parquet"))


def test_the_same_seed_gives_the_same_model_from_the_cache(
    bundle: Path, phantoms: Path, capsys: pytest.CaptureFixture[str], ray_here: None
) -> None:
    again = bundle.parent / "again"
    assert retrain(phantoms, again) == 0
    said = capsys.readouterr().err
    assert "Crops are cached" in said
    assert "Features are cached" in said
    assert read_bundle(str(again)).model_id == read_bundle(str(bundle)).model_id
    other = bundle.parent / "other"
    assert retrain(phantoms, other, *HEAD, "--seed", "1") == 0
    assert read_bundle(str(other)).model_id != read_bundle(str(bundle)).model_id


def test_two_workers_come_to_the_same_metrics_as_one(bundle: Path, phantoms: Path, ray_here: None) -> None:
    two = bundle.parent / "two"
    assert retrain(phantoms, two, *HEAD, "--workers", "2") == 0
    one = pq.read_table(bundle / "metrics.parquet").to_pandas()
    assert pq.read_table(two / "metrics.parquet").to_pandas()["loss"].tolist() == pytest.approx(one["loss"].tolist(), rel=1e-4)


def test_the_published_split_is_taken_where_it_is_asked_for(phantoms: Path, tmp_path: Path, ray_here: None) -> None:
    assert retrain(phantoms, tmp_path / "model", *HEAD, "--split", "folders") == 0
    held_out = pq.read_table(tmp_path / "model" / "split.parquet").to_pandas().query("split == 'test'")
    assert len(held_out) == 20
    assert held_out["uri"].str.contains("/Testing/").all()


def test_a_copy_stays_with_its_original_and_one_with_another_label_is_left_out_by_name(
    phantoms: Path, tmp_path: Path, ray_here: None
) -> None:
    data = Path(shutil.copytree(phantoms, tmp_path / "data"))
    originals = sorted((data / "Training" / "glioma").iterdir())
    for number, path in enumerate(originals[1:]):
        shutil.copy(path, data / "Testing" / "glioma" / f"copy-{number}{path.suffix}")
    shutil.copy(originals[0], data / "Testing" / "notumor" / f"glioma{originals[0].suffix}")
    assert retrain(data, tmp_path / "model") == 0
    split = pq.read_table(tmp_path / "model" / "split.parquet").to_pandas()
    assert (split.groupby("content_sha256")["split"].nunique() == 1).all()
    left_out = split.query("split == 'left_out'")
    assert sorted(Path(uri).name for uri in left_out["uri"]) == sorted([originals[0].name, f"glioma{originals[0].suffix}"])
    assert left_out["reason"].str.contains("another label").all()


def test_doubtful_crops_are_left_out_where_asked_and_listed(phantoms: Path, tmp_path: Path, ray_here: None) -> None:
    assert retrain(phantoms, tmp_path / "model", *HEAD, "--drop-doubtful-crops", "0") == 2  # all of them
    assert not (tmp_path / "model" / "bundle.json").exists()


def test_a_changed_image_is_noticed_and_a_broken_one_left_out_by_name(
    phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], ray_here: None
) -> None:
    data = Path(shutil.copytree(phantoms, tmp_path / "data"))
    broken = next((data / "Training" / "glioma").iterdir())
    broken.write_bytes(b"")
    assert retrain(data, tmp_path / "model") == 0
    assert f"left out: {broken}" in capsys.readouterr().err
    assert read_bundle(str(tmp_path / "model")).data["left_out"] == {"unreadable": 1}


def test_data_without_classes_ends_with_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert retrain(tmp_path / "empty", tmp_path / "model") == 2
    assert "empty" in capsys.readouterr().err


def test_a_model_no_better_than_the_champion_does_not_take_its_place(bundle: Path, phantoms: Path, ray_here: None) -> None:
    new = bundle.parent / "no-better"
    assert retrain(phantoms, new, *HEAD, "--champion", str(bundle)) == 5
    gate = json.loads((new / "gate.json").read_text())
    assert gate["decision"] == "keep"
    assert gate["comparison"]["images"] == 12
    held_out = [pq.read_table(folder / "split.parquet").to_pandas().query("split == 'test'") for folder in (bundle, new)]
    assert set(held_out[0]["content_sha256"]) == set(held_out[1]["content_sha256"])


def test_a_champion_is_not_replaced_before_it_is_beaten(bundle: Path, phantoms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert retrain(phantoms, bundle, *HEAD, "--champion", str(bundle)) == 2
    assert "same folder" in capsys.readouterr().err


def test_a_champion_that_does_not_say_what_it_learned_from_is_refused(
    bundle: Path, phantoms: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert retrain(phantoms, bundle.parent / "refused", *HEAD, "--champion", str(model)) == 2
    assert "split.parquet" in capsys.readouterr().err


@pytest.fixture(scope="module")
def undisturbed(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "model"
    finish(start(phantoms, folder))
    return folder


def start(data: Path, output: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "btc_ray.cli", *arguments(data, output, *WHOLE), "--address", "local"]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def until(process: "subprocess.Popen[str]", text: str) -> list[str]:
    """The lines of stderr up to the one with `text`."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if text in line:
            return said
    raise AssertionError(f"{text!r} was never said:\n{''.join(said)}")


def finish(process: "subprocess.Popen[str]") -> str:
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    return said


def test_a_driver_killed_in_epoch_3_continues_there_and_comes_to_the_same_model(
    undisturbed: Path, phantoms: Path, tmp_path: Path
) -> None:
    process = start(phantoms, tmp_path / "model")
    until(process, "epoch 2/4")
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for member in family:  # the machine went down, its Ray with it
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    assert not (tmp_path / "model" / "bundle.json").exists()
    finish(start(phantoms, tmp_path / "model"))
    trained = pq.read_table(tmp_path / "model" / "metrics.parquet").to_pandas()
    events = next((tmp_path / "model" / "tensorboard").glob("events.*"))
    assert trained["epoch"].unique().tolist() == [1, 2, 3, 4]
    # What was learned before the kill was not learned again: its seconds are those that the first run measured.
    assert events.stat().st_mtime < (tmp_path / "model" / "bundle.json").stat().st_mtime
    assert_same(undisturbed, tmp_path / "model")


def test_a_killed_worker_is_replaced_and_the_job_comes_to_the_same_model(
    undisturbed: Path, phantoms: Path, tmp_path: Path
) -> None:
    process = start(phantoms, tmp_path / "model")
    until(process, "epoch 1/4")
    workers = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if any("RayTrainWorker" in part for part in child.cmdline())
    ]
    assert len(workers) == 1
    workers[0].send_signal(signal.SIGKILL)
    finish(process)
    assert_same(undisturbed, tmp_path / "model")


def assert_same(one: Path, other: Path) -> None:
    """The same epochs with the same figures, each once, and the same weights to the last bit."""
    first, second = (pq.read_table(folder / "metrics.parquet").to_pandas().drop(columns="seconds") for folder in (one, other))
    assert first.equals(second)
    assert read_bundle(str(one)).model_id == read_bundle(str(other)).model_id


def test_crops_of_an_archive_are_a_table_and_a_sheet_of_the_doubtful(phantoms: Path, tmp_path: Path, ray_here: None) -> None:
    (tmp_path / "in").mkdir()
    shutil.copytree(phantoms / "Testing", tmp_path / "in" / "images")
    (tmp_path / "in" / "broken.jpg").write_bytes(b"")
    assert main(["crop", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--size", "96"]) == 0
    table = pq.read_table(tmp_path / "out" / "crops").sort_by("row_id").to_pandas()
    assert table["row_id"].tolist() == list(range(21))
    assert table["status"].value_counts().to_dict() == {"ok": 20, "unreadable": 1}
    assert table.loc[table["status"] == "ok", "pixels"].str.len().unique().tolist() == [96 * 96]
    assert table["crop_w"].dropna().between(1, 128).all()
    assert (tmp_path / "out" / "doubtful.png").stat().st_size > 1000
