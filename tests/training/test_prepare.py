"""Whatever can be wrong with a training is told before the first image is read."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from btc_ray import settings
from btc_ray.cli import main
from btc_ray.training.prepare import prepare_experiments, prepare_retrain

Data = Callable[[Path, Path], list[str]]


def _one_class(data: Path, tmp_path: Path) -> list[str]:
    shutil.copytree(data / "Training" / "glioma", tmp_path / "one" / "glioma")
    return ["--data", str(tmp_path / "one")]


def _not_weights(data: Path, tmp_path: Path) -> list[str]:
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "odd.pth")
    return ["--data", str(data), "--weights", str(tmp_path / "odd.pth")]


def _in_use(data: Path, tmp_path: Path) -> list[str]:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.docx").write_text("mine")
    return ["--data", str(data)]


WRONG: dict[str, tuple[Data, str, int]] = {
    "weights": (lambda data, tmp: ["--data", str(data), "--weights", str(tmp / "no.pth")], "weights not found", 2),
    "other weights": (_not_weights, "is not a ResNet18 state dict", 2),
    "champion": (lambda data, tmp: ["--data", str(data), "--champion", str(tmp / "no")], "is not a model bundle", 2),
    "workers": (lambda data, tmp: ["--data", str(data), "--workers", "500"], "--workers 500 asks for more", 2),
    "mlflow": (lambda data, tmp: ["--data", str(data), "--mlflow", str(tmp)], "--mlflow needs MLflow", 2),
    "one class": (_one_class, "telling apart needs two", 2),
    "output in use": (_in_use, "is not empty (it holds thesis.docx)", 4),
}


@pytest.mark.parametrize("name", WRONG)
def test_retrain_tells_it_before_an_image_is_read(
    name: str, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import ray

    flags, said, code = WRONG[name]
    given = flags(phantoms, tmp_path)
    given += [] if "--weights" in given else ["--weights", "none"]
    assert main(["retrain", *given, "--output", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]) == code
    told = capsys.readouterr().err
    assert said in told
    assert "Starting Ray" not in told
    assert not (tmp_path / "cache").exists()
    assert not ray.is_initialized()


@pytest.mark.parametrize("name", ["weights", "other weights", "one class", "output in use"])
def test_experiments_tells_it_before_an_image_is_read(
    name: str, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags, said, code = WRONG[name]
    given = flags(phantoms, tmp_path)
    given += [] if "--weights" in given else ["--weights", "none"]
    assert main(["experiments", *given, "--output", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]) == code
    told = capsys.readouterr().err
    assert said in told
    assert "Starting Ray" not in told
    assert not (tmp_path / "cache").exists()


def test_answers_are_part_of_what_is_trained_on(phantoms: Path, tmp_path: Path) -> None:
    image = next((phantoms / "Training" / "glioma").iterdir())
    sha = hashlib.sha256(image.read_bytes()).hexdigest()
    (tmp_path / "answers.csv").write_text(f"content_sha256,answer\n{sha},pituitary\n")
    flags = {"data": str(phantoms), "weights": "none", "answers": (str(tmp_path / "answers.csv"),)}
    found = prepare_retrain(settings.Retrain(output=str(tmp_path / "out"), **flags))
    asked = prepare_experiments(settings.Experiments(output=str(tmp_path / "out"), **flags))
    for prepared in (found, asked):
        label = dict(zip(prepared.table["uri"].to_pylist(), prepared.table["label"].to_pylist(), strict=True))
        assert label[str(image)] == "pituitary"
        assert prepared.answers is not None
        assert prepared.answers["relabelled"] == 1


@pytest.mark.parametrize("job", ["retrain", "experiments"])
def test_a_mistyped_path_of_weights_is_told_without_waiting_for_torch(job: str, phantoms: Path, tmp_path: Path) -> None:
    code = f"""
import sys
from btc_ray.cli import main
code = main([{job!r}, "--data", {str(phantoms)!r}, "--output", {str(tmp_path / "out")!r}, "--weights", "/no/such.pth"])
sys.exit(f"{{code}}, torch: {{'torch' in sys.modules}}, ray: {{'ray' in sys.modules}}")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip().splitlines()[-1] == "2, torch: False, ray: False"
