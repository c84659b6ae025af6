"""What `pip install .` installs: everything that a job needs is in the wheel, templates and the mark of types among it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built and unpacked as pip would."""
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_every_file_of_the_package_is_in_the_wheel(unpacked: Path) -> None:
    ours = {
        path.relative_to(ROOT) for path in (ROOT / "btc_ray").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }
    installed = {path.relative_to(unpacked) for path in (unpacked / "btc_ray").rglob("*") if path.is_file()}
    assert ours == installed
    assert Path("btc_ray/py.typed") in installed
    assert any(path.suffix == ".j2" for path in installed)


@pytest.mark.slow
def test_a_job_runs_from_the_wheel_alone(unpacked: Path, model: Path, phantoms: Path, tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
import btc_ray
from btc_ray.cli import main
assert Path(btc_ray.__file__).is_relative_to(sys.argv.pop(1)), btc_ray.__file__
sys.exit(main(sys.argv[1:]))
"""
    words = ["score", "--model", str(model), "--input", str(phantoms / "Testing"), "--output", str(tmp_path / "run")]
    command, environment = [sys.executable, "-c", code, str(unpacked), *words], {"PYTHONPATH": str(unpacked)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "summary.html").exists()
