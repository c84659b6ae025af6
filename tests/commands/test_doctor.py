"""`btc-ray doctor` tries what it speaks of, tells what is missing and how to get it, and ends with 2 where pictures cannot be scored."""

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest

from btc_ray import settings
from btc_ray.cli import main
from btc_ray.commands.doctor import decoders, machine
from btc_ray.images.formats import frame_pool, samples
from btc_ray.workers.session import ray_session


def found(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, dict[str, dict[str, object]]]:
    code = main(["doctor", "--json", *flags])
    told = json.loads(capsys.readouterr().out)
    assert told["can_score"] == (code == 0)
    return code, {check["name"]: check for check in told["checks"]}


@pytest.mark.slow
def test_here_pictures_can_be_scored_and_every_subject_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--weights", "none"]) == 0
    told = capsys.readouterr().out
    for subject in ("Room", "Pictures", "DICOM", "Engines", "GPU", "Ray", "Object stores", "Initial weights"):
        assert f"\n{subject}\n" in told
    assert "torch fp32" in told
    assert "images/s on c" in told
    assert told.endswith("Pictures can be scored here.\n")


@pytest.mark.slow
def test_without_an_engine_that_works_it_ends_with_2(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr(machine, "open_engine", fails)
    code, checks = found(capsys, "--weights", "none")
    assert code == 2
    assert checks["torch fp32"]["state"] == "broken"
    assert "libgomp" in str(checks["torch fp32"]["detail"])


def test_a_full_disk_is_told_and_ends_with_2(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LEAST_DISK", 1 << 60)
    monkeypatch.setattr(machine, "engines", list)
    monkeypatch.setattr(decoders, "transfer_syntaxes", list)
    code, checks = found(capsys, "--weights", "none", "--output", "runs/tonight")
    assert code == 2
    assert checks["disk, --output"]["state"] == "broken"


def test_a_library_that_cannot_be_loaded_is_a_finding_and_ends_with_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from btc_ray.commands.doctor import doctor

    def load(name: str) -> object:
        if name.endswith("decoders"):
            raise ImportError("libGL.so.1: cannot open shared object file")
        return machine

    monkeypatch.setattr(doctor, "import_module", load)
    monkeypatch.setattr(machine, "engines", list)
    code = main(["doctor", "--json", "--weights", "none"])
    told = json.loads(capsys.readouterr().out)
    assert code == 2
    broken = {check["subject"]: check["detail"] for check in told["checks"] if check["state"] == "broken"}
    assert broken.keys() == {"Pictures", "DICOM"}
    assert "libGL" in broken["Pictures"]


def test_every_transfer_syntax_that_is_taken_is_looked_at() -> None:
    pytest.importorskip("gdcm")
    checks = {check.name.rpartition("(")[2].rstrip(")"): check for check in decoders.transfer_syntaxes()}
    assert checks.keys() == frame_pool.SYNTAXES.keys()
    tried = {syntax for syntax, check in checks.items() if check.detail == "a sample was decoded"}
    assert tried == frame_pool.SYNTAXES.keys() - {"1.2.840.10008.1.2.4.51"}
    assert checks["1.2.840.10008.1.2.4.51"].state == "missing", "pydicom has no decoder for 12 bits"


def test_a_missing_decoder_is_told_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(syntax: str) -> None:
        raise ModuleNotFoundError(name="openjpeg")

    monkeypatch.setattr(decoders, "sample_frame", none)
    checks = decoders.transfer_syntaxes()
    assert {check.state for check in checks} == {"missing"}
    assert all("btc-ray[dicom]" in check.advice for check in checks)


def test_a_decoder_that_gives_other_pixels_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_pool, "decode", lambda content, task: np.zeros((task.rows, task.columns), np.uint16))
    checks = [check for check in decoders.transfer_syntaxes() if "not tried" not in check.detail]
    assert {check.state for check in checks} == {"broken"}


def test_weights_are_looked_for_and_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (check,) = machine.initial_weights("imagenet", {})
    assert check.state == "missing"
    assert str(tmp_path) in check.advice, "where the file has to be put"
    assert not list(tmp_path.iterdir())
    (check,) = machine.initial_weights(str(tmp_path / "own.safetensors"), {})
    assert check.state == "missing"
    (tmp_path / "own.safetensors").touch()
    assert machine.initial_weights(str(tmp_path / "own.safetensors"), {})[0].state == "ok"


def test_a_store_without_its_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(machine, "version", absent)
    assert [(check.state, check.advice) for check in machine.stores()] == [
        ("missing", f"pip install 'btc-ray[{extra}]'") for extra in ("s3", "gcs", "azure")
    ]


def test_a_cluster_that_does_not_answer_is_broken() -> None:
    (check,) = machine.ray(ray_session(settings.Doctor(start_ray=True, address="127.0.0.1:1")))
    assert (check.state, check.needed) == ("broken", True)
    assert "127.0.0.1:1" in check.detail


@pytest.mark.parametrize("syntax", frame_pool.SYNTAXES)
def test_a_sample_has_the_kind_of_frame_it_says(syntax: str) -> None:
    pytest.importorskip("gdcm")
    sample = samples.sample_frame(syntax)
    assert sample is not None
    content, words, bits = sample
    assert words.shape == (samples.SIDE, samples.SIDE)
    assert words.max() < 2**bits
    assert len(content) < words.nbytes
