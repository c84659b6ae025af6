"""SIGKILL while an archive is indexed, scored or grouped: the same command again ends with the tables of an undisturbed run."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.scoring.runs import rows, score, state
from tests.scoring.test_dicom_run import slices

SERIES, SLICES = 4, 6
TABLES = ("series", "exams")

# What the process does to itself: the point is reached, a second time perhaps, and it is gone.
KILLED = """
import os, signal, sys
from btc_ray import cli
from btc_ray.scoring import local, run, series
from btc_ray.storage import Place
from btc_ray.studies import candidates

def dies(room, name, times):
    inner, left = getattr(room, name), [times]
    def call(*given, **named):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return inner(*given, **named)
    setattr(room, name, call)

candidates.FILES_A_PART, local.STAGE_EVERY_S = 8, 0.0
where = sys.argv.pop(1)
if where == "indexing":
    dies(candidates, "write_private", 2)
elif where == "scoring":
    dies(local, "_stage", 2)
else:
    series.exams_table = lambda *given, inner=series.exams_table, **named: (dies(Place, "write_table", 1), inner(*given, **named))[1]
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed") / "in"
    folder.mkdir()
    for number in range(SERIES):
        tags = {"SeriesInstanceUID": f"1.{number}", "StudyInstanceUID": f"2.{number}", "PatientID": f"P{number}"}
        for at, data in enumerate(slices(SLICES, **tags)):
            (folder / f"{number}-{at}").write_bytes(data)
    (folder.parent / "key").write_text("one key that is long enough")
    return folder


@pytest.fixture(scope="module")
def undisturbed(archive: Path, model: Path) -> Path:
    run = archive.parent / "undisturbed"
    assert score(model, [archive], run, "--pseudonym-key", str(archive.parent / "key")) == 0
    return run


@pytest.mark.parametrize("where", ["indexing", "scoring", "grouping"])
def test_a_killed_run_ends_with_the_tables_of_an_undisturbed_one(
    where: str, archive: Path, undisturbed: Path, model: Path, tmp_path: Path
) -> None:
    run, key = tmp_path / "run", ["--pseudonym-key", str(archive.parent / "key")]
    command = ["score", "--model", str(model), "--input", str(archive), "--output", str(run), *key]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, where, *command], env=environment, capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = {
        "indexing": len(list((run / "private" / "index").glob("part-*"))),
        "scoring": len(list((run / "_work" / "staged-here").glob("part-*"))),
        "grouping": len([name for name in TABLES if (run / name).exists()]),
    }
    assert left[where] == (1 if where == "grouping" else 2)  # it was under way
    parts = {path: path.stat().st_mtime_ns for path in (run / "private" / "index").glob("part-*")}
    assert score(model, [archive], run, *key) == 0
    assert state(run)["complete"]
    assert rows(run).equals(rows(undisturbed))
    for name in TABLES:
        assert pq.read_table(run / name).equals(pq.read_table(undisturbed / name))
    if where == "scoring":
        assert parts == {path: path.stat().st_mtime_ns for path in parts}
