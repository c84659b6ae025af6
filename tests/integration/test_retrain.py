"""From labelled images to a bundle that scores as well as it says, on a real Ray; killed, continued, and compared with a champion."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from btc_ray import settings
from btc_ray.cli import main
from btc_ray.dataset.labelled import LabelledImages
from btc_ray.model.bundle import read_bundle
from btc_ray.settings.parse import parse
from btc_ray.storage import Place
from btc_ray.training.fit import labelled_images
from btc_ray.training.prepare import prepare_retrain
from tests.integration.trainings import HEAD, arguments, copy_cache, retrain
from tests.scoring.runs import rows, score

pytestmark = pytest.mark.ray

WHOLE = ("--train", "all", "--size", "48", "--resolutions", "32", "48", "--epochs", "4", "--batch-size", "8")


def prepared(bundle: Path, folder: Path) -> tuple[str, str]:
    """Flags: a cache of its own that holds what was made for `bundle`."""
    return "--cache", str(copy_cache(bundle, folder / "cache"))


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
    guarantee = content["decision"]["guarantee"]
    assert (guarantee["holds"], guarantee["unit"], guarantee["answers"]) == (False, "group of copies", "validation")
    assert (
        f"accept: nothing: {guarantee['reason']}." in (bundle / "model_card.md").read_text()
    )  # a handful of images shows nothing
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
    assert accuracy == pytest.approx(read_bundle(Place(str(bundle))).metrics["test"]["accuracy"], abs=0.005)
    assert set(table["decision"]) <= {"accept", "review", "reject"}
    assert (table["feature_distance"] > 0).all()
    assert main(["review", "--run", str(tmp_path / "run"), "--model", str(bundle)]) == 0
    record = json.loads((tmp_path / "run" / "review.json").read_text())
    assert sum(record["decisions"].values()) == record["scored"] == len(pq.read_table(tmp_path / "run" / "worklist.parquet"))


@dataclass(frozen=True, kw_only=True)
class Again:
    """The bundle trained a second time, from its cache, with itself as the champion."""

    model: Path
    code: int
    said: str


@pytest.fixture(scope="module")
def again(bundle: Path, phantoms: Path, backbone: Path, tmp_path_factory: pytest.TempPathFactory, ray_here: None) -> Again:
    folder = tmp_path_factory.mktemp("again")
    flags, said = (*HEAD, *prepared(bundle, folder), "--champion", str(bundle)), io.StringIO()
    with contextlib.redirect_stderr(said):
        code = retrain(phantoms, folder / "model", *flags, weights=backbone)
    return Again(model=folder / "model", code=code, said=said.getvalue())


def test_the_same_seed_gives_the_same_model_from_the_cache(bundle: Path, again: Again) -> None:
    assert "Crops are cached" in again.said
    assert "Features of 60 images are cached" in again.said
    assert read_bundle(Place(str(again.model))).model_id == read_bundle(Place(str(bundle))).model_id
    first, second = (pq.read_table(folder / "metrics.parquet").to_pandas() for folder in (bundle, again.model))
    assert second["seconds"].tolist() != first["seconds"].tolist(), "trained, and not taken up from where it had ended"


def test_a_model_no_better_than_the_champion_does_not_take_its_place(bundle: Path, again: Again) -> None:
    assert again.code == 5
    gate = json.loads((again.model / "gate.json").read_text())
    assert gate["decision"] == "keep"
    assert gate["comparison"]["images"] == 12
    held_out = [pq.read_table(folder / "split.parquet").to_pandas().query("split == 'test'") for folder in (bundle, again.model)]
    assert set(held_out[0]["content_sha256"]) == set(held_out[1]["content_sha256"])


def test_two_workers_come_to_the_same_metrics_as_one(
    bundle: Path, phantoms: Path, backbone: Path, tmp_path: Path, ray_here: None
) -> None:
    flags = (*HEAD, *prepared(bundle, tmp_path), "--workers", "2")
    assert retrain(phantoms, tmp_path / "two", *flags, weights=backbone) == 0
    one, two = (pq.read_table(folder / "metrics.parquet").to_pandas() for folder in (bundle, tmp_path / "two"))
    assert two["seconds"].tolist() != one["seconds"].tolist(), "trained, and not taken up from where one had ended"
    assert two["loss"].tolist() == pytest.approx(one["loss"].tolist(), rel=1e-4)


def sides(data: Path, output: Path, *flags: str, weights: Path) -> LabelledImages:
    """The images and their sides, as `btc-ray retrain` with these flags has them before it trains."""
    chosen = parse(settings.Retrain, arguments(data, output, *HEAD, *flags, weights=weights)[1:], program="btc-ray retrain")
    return labelled_images(chosen, prepare_retrain(chosen))


def test_the_published_split_is_taken_where_it_is_asked_for(
    bundle: Path, phantoms: Path, backbone: Path, tmp_path: Path, ray_here: None
) -> None:
    images = sides(phantoms, tmp_path / "model", *prepared(bundle, tmp_path), "--split", "folders", weights=backbone)
    held_out = images.table().to_pandas().query("split == 'test'")
    assert len(held_out) == 20
    assert held_out["uri"].str.contains("/Testing/").all()


@dataclass(frozen=True, kw_only=True)
class Odd:
    """Data in which some images have copies, one has a copy under another label, and one is broken."""

    images: LabelledImages
    original: Path  # of the copy under another label
    broken: Path
    said: str


@pytest.fixture(scope="module")
def odd(phantoms: Path, backbone: Path, tmp_path_factory: pytest.TempPathFactory, ray_here: None) -> Odd:
    folder = tmp_path_factory.mktemp("odd")
    data = Path(shutil.copytree(phantoms, folder / "data"))
    originals, broken = sorted((data / "Training" / "glioma").iterdir()), min((data / "Training" / "pituitary").iterdir())
    for number, path in enumerate(originals[1:]):
        shutil.copy(path, data / "Testing" / "glioma" / f"copy-{number}{path.suffix}")
    shutil.copy(originals[0], data / "Testing" / "notumor" / f"glioma{originals[0].suffix}")
    broken.write_bytes(b"")
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        images = sides(data, folder / "model", weights=backbone)
    return Odd(images=images, original=originals[0], broken=broken, said=said.getvalue())


def test_a_copy_stays_with_its_original_and_one_with_another_label_is_left_out_by_name(odd: Odd) -> None:
    split = odd.images.table().to_pandas()
    assert (split.groupby("content_sha256")["split"].nunique() == 1).all()
    left_out = split.query("split == 'left_out'")
    assert sorted(Path(uri).name for uri in left_out["uri"]) == sorted([odd.original.name, f"glioma{odd.original.suffix}"])
    assert left_out["reason"].str.contains("another label").all()


def test_a_broken_image_is_left_out_by_name(odd: Odd) -> None:
    assert f"left out: {odd.broken}" in odd.said
    left_out = odd.images.counts()["left_out"]
    assert (left_out["unreadable"], sum(left_out.values())) == (1, 3)


def test_doubtful_crops_are_left_out_where_asked_and_listed(bundle: Path, phantoms: Path, tmp_path: Path, ray_here: None) -> None:
    doubtful = ("--drop-doubtful-crops", "0")  # all of them
    assert retrain(phantoms, tmp_path / "model", *HEAD, *prepared(bundle, tmp_path), *doubtful) == 2
    assert not (tmp_path / "model" / "bundle.json").exists()


def test_data_without_classes_ends_with_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert retrain(tmp_path / "empty", tmp_path / "model", *HEAD) == 2
    assert "empty" in capsys.readouterr().err


def test_a_champion_is_not_replaced_before_it_is_beaten(bundle: Path, phantoms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert retrain(phantoms, bundle, *HEAD, "--champion", str(bundle)) == 2
    assert "same folder" in capsys.readouterr().err


def test_a_champion_that_does_not_say_what_it_learned_from_is_refused(
    bundle: Path, phantoms: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert retrain(phantoms, bundle.parent / "refused", *HEAD, "--champion", str(model)) == 2
    assert "split.parquet" in capsys.readouterr().err


@pytest.fixture(scope="module")
def undisturbed(bundle: Path, phantoms: Path, tmp_path_factory: pytest.TempPathFactory, ray_here: None) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "model"
    copy_cache(bundle, folder.parent / ".btc-ray-cache")
    assert retrain(phantoms, folder, *WHOLE) == 0
    return folder


def start(data: Path, output: Path, *flags: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "btc_ray.cli", *arguments(data, output, *WHOLE, *flags)]
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


def test_a_worker_and_then_the_machine_killed_in_mid_training_leave_the_model_of_an_undisturbed_run(
    undisturbed: Path, phantoms: Path, tmp_path: Path
) -> None:
    own = (*prepared(undisturbed, tmp_path), "--address", "local", "--cpus", "2")  # as many as the undisturbed one had
    process = start(phantoms, tmp_path / "model", *own)
    until(process, "epoch 1/4")
    workers = [child for child in psutil.Process(process.pid).children(recursive=True) if "RayTrainWorker" in title(child)]
    assert len(workers) == 1
    workers[0].send_signal(signal.SIGKILL)
    until(process, "epoch 2/4")  # another worker took its place, in the same run
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for member in family:  # the machine went down, its Ray with it
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    assert not (tmp_path / "model" / "bundle.json").exists()
    finish(start(phantoms, tmp_path / "model", *own))
    trained = pq.read_table(tmp_path / "model" / "metrics.parquet").to_pandas()
    events = next((tmp_path / "model" / "tensorboard").glob("events.*"))
    assert trained["epoch"].unique().tolist() == [1, 2, 3, 4]
    # What was learned before the kill was not learned again: its seconds are those that the first run measured.
    assert events.stat().st_mtime < (tmp_path / "model" / "bundle.json").stat().st_mtime
    assert_same(undisturbed, tmp_path / "model")


def title(process: psutil.Process) -> str:
    """What Ray calls a worker; nothing of one that has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def assert_same(one: Path, other: Path) -> None:
    """The same epochs with the same figures, each once, and the same weights to the last bit."""
    first, second = (pq.read_table(folder / "metrics.parquet").to_pandas().drop(columns="seconds") for folder in (one, other))
    assert first.equals(second)
    assert read_bundle(Place(str(one))).model_id == read_bundle(Place(str(other))).model_id


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
