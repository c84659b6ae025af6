"""The command speaks to people: exit codes, one-line errors, and results where they are."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from btc_ray import cli
from btc_ray.cli import main

ROOT = Path(__file__).resolve().parents[1]


def test_help_lists_every_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in cli.COMMANDS)
    assert "not for diagnostic use" in said


def test_an_unknown_job_ends_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scoer"]) == 2
    assert "'scoer'" in capsys.readouterr().err


def test_a_users_mistake_is_one_line_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["score", "--model", str(tmp_path), "--input", str(tmp_path), "--output", str(tmp_path / "run")]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("btc-ray: ")
    assert "is not a model bundle" in said
    assert "Traceback" not in said
    assert main([*arguments, "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["here", "on a worker"])
def test_a_gpu_that_failed_is_one_line_and_code_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    from btc_ray.errors import DeviceError

    failed = DeviceError("the GPU failed: CUDA error: unspecified launch failure. A new process may be able to use it again.")

    def score(chosen: object) -> int:
        if where == "here":
            raise failed
        from ray.exceptions import RayTaskError

        told = f"ray::MapWorker()\nTraceback\nbtc_ray.errors.DeviceError: {failed}"
        raise RayTaskError("submit", told, failed)

    monkeypatch.setitem(cli.COMMANDS, "score", cli.Command(settings=cli.settings.Score, run=score))
    assert main(["score", "--model", "m", "--input", "i", "--output", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err == f"btc-ray: {failed}\n"


def test_a_fault_of_ours_shows_where_and_ends_with_code_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(chosen: object) -> int:
        raise KeyError("a bug")

    monkeypatch.setitem(cli.COMMANDS, "info", cli.Command(settings=cli.COMMANDS["info"].settings, run=broken))
    assert main(["info", str(tmp_path)]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("job", sorted(path.stem for path in (ROOT / "jobs").glob("*.py")))
@pytest.mark.slow
def test_every_job_is_a_script_with_the_same_flags(job: str) -> None:
    script, command = (
        subprocess.run([sys.executable, *how, "--help"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
        for how in ([f"jobs/{job}.py"], ["-m", "btc_ray.cli", job])
    )
    assert script == command
    assert "--address" in script


def test_info_tells_a_bundle(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(model)]) == 0
    assert "glioma, meningioma, notumor, pituitary" in capsys.readouterr().out
    assert main(["info", str(model), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["architecture"] == "resnet18"


def test_info_of_something_else_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(tmp_path)]) == 2
    assert "neither a model bundle" in capsys.readouterr().err


def test_info_loads_neither_torch_nor_ray(model: Path) -> None:
    code = (
        "import sys; from btc_ray.cli import main; "
        f"main(['info', {str(model)!r}]); sys.exit(any(name in sys.modules for name in ('torch', 'ray')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("job", ["demo", "crop"])
def test_a_folder_with_a_users_files_is_refused_and_left_alone(
    job: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("data", "crops"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "precious.txt").write_text("a year of work")
    flags = ["--input", str(tmp_path / "crops")] if job == "crop" else []
    assert main([job, "--output", str(tmp_path), *flags]) in (2, 4)
    assert "is not empty" in capsys.readouterr().err
    assert len(list(tmp_path.rglob("precious.txt"))) == 2


@pytest.mark.parametrize("flags", [["--cpus", "0"], ["--gpus", "0"], ["--gpus", "-1"]])
def test_impossible_resources_end_with_code_2(flags: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["score", "--model", "m", "--input", "i", "--output", "o", *flags])
    assert caught.value.code == 2
