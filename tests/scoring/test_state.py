"""run.json as a record; runs and bundles of the version before it was one are continued."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from btc_ray.cli import main
from btc_ray.errors import RefusedError
from btc_ray.scoring.state import read_state
from btc_ray.storage import Place
from tests.scoring.runs import rows, score, state

# run.json as the version of November 2026 wrote it when it was interrupted, its inputs and ids left open.
INTERRUPTED = """{
  "kind": "score",
  "complete": false,
  "notice": "Research use only. Not a medical device; not for diagnostic use.",
  "settings": {"address": null, "cpus": 1, "storage_options": [], "debug": false, "model": "MODEL", "input": ["INPUT"],
    "output": "RUN", "dry_run": false, "retry_failed": false, "max_bad_fraction": 0.5, "engine": "torch", "device": "auto",
    "precision": "auto", "batch_size": 4, "local_rows": 2000, "gpus": 1.0},
  "model_uri": "MODEL",
  "fingerprint": {"inputs": ["INPUT"], "model_id": "MODEL_ID", "preprocess_id": "PREPROCESS_ID", "test_time_flips": false,
    "decision": null, "engine": "torch", "precision": "fp32"},
  "classes": ["glioma", "meningioma", "notumor", "pituitary"],
  "manifest": {"rows": ROWS, "size": 28835, "unknown_sizes": 0, "parts": 1, "problems": {}, "formats": {".jpg": 8, ".png": 1},
    "fingerprint": "5d0ad667c15a809fe3da0d718f9b3475a74fa7d2466626ff4fc3d6c109cc5102", "listed": "2026-11-26T10:21:08+00:00"},
  "generation": 0,
  "finishing": null,
  "sessions": [],
  "counts": null,
  "skipped": {},
  "versions": {"python": "3.11.7", "btc-ray": "0.1.0"}
}
"""


@pytest.fixture
def interrupted(model: Path, archive: Path, tmp_path: Path) -> Path:
    """A run folder as the version before would have left it after its first batch of four rows."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    score(model, [archive], whole, "--engine", "torch", "--precision", "fp32", "--batch-size", "4")
    shutil.copytree(whole / "manifest", run / "manifest")
    shutil.copy(whole / "skipped.parquet", run)
    staged = run / "_work" / "staged-here"
    staged.mkdir(parents=True)
    pq.write_table(pq.read_table(whole / "scores").sort_by("row_id").slice(0, 4), staged / "part-000000000000.parquet")
    made = state(whole)
    text = INTERRUPTED.replace("MODEL_ID", made["fingerprint"]["model_id"]).replace("RUN", str(run))
    text = text.replace("PREPROCESS_ID", made["fingerprint"]["preprocess_id"]).replace("ROWS", str(made["manifest"]["rows"]))
    (run / "run.json").write_text(text.replace("MODEL", str(model)).replace("INPUT", str(archive)))
    return run


def test_a_half_finished_run_of_the_version_before_is_continued(model: Path, archive: Path, interrupted: Path) -> None:
    assert score(model, [archive], interrupted, "--batch-size", "4") == 0
    assert rows(interrupted).equals(rows(interrupted.parent / "whole"))
    assert state(interrupted)["sessions"][0]["images"] == state(interrupted)["manifest"]["rows"] - 4


def test_a_bundle_of_the_version_before_is_used_and_shown(model: Path, archive: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(model, old)
    known = json.loads((old / "bundle.json").read_text())
    for name in ("temperature", "test_time_flips", "decision", "int8", "git_commit", "mean", "std", "architecture", "format"):
        del known[name]  # what bundles had not yet, each with a default
    (old / "bundle.json").write_text(json.dumps(known | {"later": 1}))
    assert main(["info", str(old)]) == 0
    assert score(old, [archive], tmp_path / "run") == 0
    score(model, [archive], tmp_path / "other")
    assert rows(tmp_path / "run").equals(rows(tmp_path / "other"))


def test_what_a_newer_version_wrote_is_kept(model: Path, archive: Path, tmp_path: Path) -> None:
    score(model, [archive], tmp_path / "run")
    file = tmp_path / "run" / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"cohorts": {"exams": 3}}))
    assert read_state(Place(str(tmp_path / "run"))).to_dict()["cohorts"] == {"exams": 3}
    assert score(model, [archive], tmp_path / "run") == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "audit"}, "is not the run folder of a scoring job"),
        ({"fingerprint": {"inputs": []}}, "is damaged: Object missing required field `model_id`"),
        ({"complete": "perhaps"}, r"is damaged: Expected `bool`, got `str` - at `\$.complete`"),
        ({"manifest": {"rows": "many"}}, r"is damaged: Expected `int`, got `str` - at `\$.manifest.rows`"),
        ({"sessions": 7}, r"is damaged: Expected `array`, got `int` - at `\$.sessions`"),
    ],
)
def test_a_wrong_field_is_named(model: Path, archive: Path, tmp_path: Path, change: dict[str, object], said: str) -> None:
    score(model, [archive], tmp_path / "run")
    file = tmp_path / "run" / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(RefusedError, match=said):
        read_state(Place(str(tmp_path / "run")))
    assert score(model, [archive], tmp_path / "run") == 4


def _lose(part: Path) -> None:
    part.unlink()


def _cut(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:100])


def _shorten(part: Path) -> None:
    pq.write_table(pq.read_table(part).slice(0, 3), part)


@pytest.mark.parametrize("harm", [_lose, _cut, _shorten])
@pytest.mark.parametrize("what", ["manifest", "scores"])
@pytest.mark.slow
def test_rows_that_were_lost_are_told_and_never_called_complete(
    model: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str, harm: object
) -> None:
    score(model, [archive], tmp_path / "run")
    assert callable(harm)
    harm(next((tmp_path / "run" / what).iterdir()))
    capsys.readouterr()
    assert score(model, [archive], tmp_path / "run") == 1
    said = capsys.readouterr().err
    assert what in said
    assert "is complete already" not in said
    assert score(model, [archive], tmp_path / "run", "--retry-failed") == 1


def test_a_manifest_that_lost_rows_before_a_continuation_is_told(model: Path, archive: Path, interrupted: Path) -> None:
    _shorten(interrupted / "manifest" / "part-00000.parquet")
    assert score(model, [archive], interrupted) == 1
    assert not state(interrupted)["complete"]


@pytest.mark.parametrize("change", [{"temperature": 2.0}, {"classes": ["a", "b", "c", "d"]}, {"std": [0.3, 0.3, 0.3]}])
@pytest.mark.slow
def test_a_run_does_not_go_on_with_another_bundle_of_the_same_weights(
    model: Path, archive: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    score(model, [archive], tmp_path / "run")
    other = tmp_path / "other"
    shutil.copytree(model, other)
    (other / "bundle.json").write_text(json.dumps(json.loads((other / "bundle.json").read_text()) | change))
    assert score(other, [archive], tmp_path / "run") == 4


def test_a_bundle_that_is_replaced_while_a_run_starts_is_refused(
    model: Path, other_model: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from btc_ray.scoring import run

    champion = tmp_path / "champion"
    shutil.copytree(model, champion)
    real = run.list_images

    def list_while_it_is_replaced(*arguments: object, **named: object) -> object:
        shutil.copytree(other_model, champion, dirs_exist_ok=True)
        return real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "list_images", list_while_it_is_replaced)
    assert score(champion, [archive], tmp_path / "run") == 2
    assert not state(tmp_path / "run")["complete"]
