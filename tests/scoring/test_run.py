"""A run in this process: one row an image, and refused when it belongs to something else. How it goes on is in `test_continued`."""

import contextlib
import errno
import fcntl
import functools
import itertools
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from btc_ray import NOT_FOR_DIAGNOSIS
from btc_ray.model.bundle import read_bundle
from btc_ray.model.engines.choose import choose
from btc_ray.scoring import finish
from btc_ray.scoring.table import scores_schema
from btc_ray.storage import Place
from tests.archive.samples import jpeg, write, zip_bytes
from tests.scoring.runs import rows, score, state


def test_every_image_gets_one_row_with_the_columns_of_the_contract(model: Path, archive: Path, tmp_path: Path) -> None:
    assert score(model, [archive], tmp_path / "run") == 0
    table = pq.read_table(tmp_path / "run" / "scores")
    bundle = read_bundle(Place(str(model)))
    assert table.schema.remove_metadata() == scores_schema(bundle).remove_metadata()
    assert table.schema.metadata[b"notice"].decode() == NOT_FOR_DIAGNOSIS
    found = rows(tmp_path / "run")
    assert found["row_id"].tolist() == list(range(21))
    assert found["uri"].tolist() == sorted(str(path) for path in archive.rglob("*.*") if path.suffix != ".txt")
    good = found[found["status"] == "ok"]
    assert len(good) == 20
    probabilities = good[[f"prob_{name}" for name in bundle.classes]]
    assert probabilities.sum(axis=1).between(0.999, 1.001).all()
    assert (good["label"] == probabilities.idxmax(axis=1).str.removeprefix("prob_")).all()
    assert (good["confidence"] == probabilities.max(axis=1)).all()


def test_a_broken_image_is_a_row_with_its_reason_and_nulls(model: Path, archive: Path, tmp_path: Path) -> None:
    score(model, [archive], tmp_path / "run")
    broken = rows(tmp_path / "run").set_index("uri").loc[str(archive / "glioma" / "broken.jpg")]
    assert broken["status"] == "unreadable"
    assert "empty" in broken["error"]
    assert broken[["label", "confidence", "prob_glioma", "width", "crop_x", "crop_status"]].isna().all()


def test_the_run_folder_holds_what_the_contract_says(model: Path, archive: Path, tmp_path: Path) -> None:
    score(model, [archive], tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "manifest",
        "scores",
        "run.json",
        "summary.html",
        "skipped.parquet",
    }
    assert state(tmp_path / "run")["complete"] is True
    assert state(tmp_path / "run")["counts"]["status"] == {"ok": 20, "unreadable": 1}
    assert pq.read_table(tmp_path / "run" / "skipped.parquet")["uri"].to_pylist() == [str(archive / "notes.txt")]


def test_running_a_complete_run_again_changes_nothing(model: Path, archive: Path, tmp_path: Path) -> None:
    score(model, [archive], tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.parquet")}
    assert score(model, [archive], tmp_path / "run") == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.parquet")} == before


def test_too_many_bad_images_end_with_code_3_and_a_complete_table(model: Path, archive: Path, tmp_path: Path) -> None:
    assert score(model, [archive], tmp_path / "run", "--max-bad-fraction", "0.01") == 3
    assert state(tmp_path / "run")["complete"] is True


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda command, other: {**command, "model": other}, "another model: model_id"),
        (lambda command, other: {**command, "inputs": [command["inputs"][0] / "glioma"]}, "other inputs"),
        (
            lambda command, other: {**command, "flags": ("--precision", "bf16")},
            "another precision: precision is fp32 there and bf16 now",
        ),
        (
            lambda command, other: {**command, "flags": ("--precision", "fp32", "--engine", "openvino")},
            "another engine: engine is torch there and openvino now",
        ),
    ],
)
def test_a_run_folder_of_something_else_is_refused_with_code_4(
    model: Path, other_model: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: object, named: str
) -> None:
    command = {"model": model, "inputs": [archive], "flags": ("--precision", "fp32", "--engine", "torch")}
    score(command["model"], command["inputs"], tmp_path / "run", *command["flags"])  # type: ignore[arg-type]
    before = rows(tmp_path / "run")
    other = change(command, other_model)  # type: ignore[operator]
    assert score(other["model"], other["inputs"], tmp_path / "run", *other["flags"]) == 4
    assert named in capsys.readouterr().err
    assert rows(tmp_path / "run").equals(before)


def test_what_auto_stood_for_is_written_down(model: Path, archive: Path, tmp_path: Path) -> None:
    assert score(model, [archive], tmp_path / "run") == 0
    run, chosen = state(tmp_path / "run"), choose()
    assert (run["fingerprint"]["engine"], run["fingerprint"]["precision"]) == (chosen.engine, chosen.precision)
    assert run["sessions"][0]["engine"] == chosen.engine
    assert run["settings"]["engine"] == "auto"


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(model: Path, archive: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("…")
    assert score(model, [archive], tmp_path / "thesis") == 4
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter1.tex"]


def test_an_output_that_is_a_file_is_refused_and_left_alone(
    model: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").write_text("a year of work")
    assert score(model, [archive], tmp_path / "run") == 4
    assert "is a file and no folder" in capsys.readouterr().err
    assert (tmp_path / "run").read_text() == "a year of work"


def test_two_programs_do_not_write_one_run_folder(model: Path, archive: Path, tmp_path: Path) -> None:
    from btc_ray.scoring.folder import RunFolder

    with RunFolder(Place(str(tmp_path / "run"))).locked(lease_s=60):
        assert score(model, [archive], tmp_path / "run") == 4
    assert score(model, [archive], tmp_path / "run") == 0


def test_retrying_scores_only_what_failed_and_keeps_the_rest(model: Path, archive: Path, tmp_path: Path) -> None:
    hidden = archive / "glioma" / "later.jpg"
    hidden.symlink_to(tmp_path / "not-mounted-yet.jpg")
    score(model, [archive], tmp_path / "run")
    before = rows(tmp_path / "run").set_index("uri")
    assert before.loc[str(hidden), "status"] == "failed"
    shutil.copy(next((archive / "notumor").iterdir()), tmp_path / "not-mounted-yet.jpg")
    assert score(model, [archive], tmp_path / "run", "--retry-failed") == 0
    after = rows(tmp_path / "run").set_index("uri")
    assert after.loc[str(hidden), "status"] == "ok"
    assert after.drop(str(hidden)).equals(before.drop(str(hidden)))
    assert state(tmp_path / "run")["sessions"][-1]["images"] == 2  # the broken one was tried again too
    assert after.loc[str(archive / "glioma" / "broken.jpg"), "status"] == "unreadable"


def test_retrying_when_all_is_well_changes_nothing(model: Path, archive: Path, tmp_path: Path) -> None:
    (archive / "glioma" / "broken.jpg").unlink()
    score(model, [archive], tmp_path / "run")
    before = rows(tmp_path / "run")
    assert score(model, [archive], tmp_path / "run", "--retry-failed") == 0
    assert rows(tmp_path / "run").equals(before)


def test_a_dry_run_says_what_would_happen_and_writes_nothing(
    model: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(model, [archive], tmp_path / "run", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "21 images" in said
    assert "1 would be skipped: not an image (.txt)" in said
    assert "notes.txt" in said
    assert "on this machine" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("what", ["nowhere", "empty"])
def test_inputs_without_images_end_with_code_2(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    (tmp_path / "empty").mkdir()
    assert score(model, [tmp_path / what], tmp_path / "run") == 2
    assert what in capsys.readouterr().err


def test_files_that_vanish_after_the_listing_are_rows(
    model: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from btc_ray.scoring import run

    gone = archive / "notumor"
    real = run._execute

    def vanish(*arguments: object, **named: object) -> object:
        shutil.rmtree(gone)
        return real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "_execute", vanish)
    assert score(model, [archive], tmp_path / "run") == 0
    found = rows(tmp_path / "run")
    lost = found[found["uri"].str.startswith(str(gone))]
    assert set(lost["status"]) == {"failed"}
    assert len(lost) == 5
    assert (found.drop(lost.index)["status"] == "ok").sum() == 15


def test_big_tables_are_written_in_files_of_sensible_size(
    model: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(finish, "ROWS_PER_FILE", 8)
    score(model, [archive], tmp_path / "run")
    files = sorted((tmp_path / "run" / "scores").iterdir())
    assert len(files) < 21
    ids = [pq.read_table(file)["row_id"].to_pylist() for file in files]
    assert list(itertools.chain.from_iterable(ids)) == list(range(21))


def test_run_json_tells_no_secret(model: Path, archive: Path, tmp_path: Path) -> None:
    score(model, [archive], tmp_path / "run", "--storage-options", "secret=PLANTED-SECRET")
    for path in (tmp_path / "run").rglob("*"):
        assert path.is_dir() or b"PLANTED-SECRET" not in path.read_bytes(), path
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["storage_options"] == ["secret=***"]


def test_a_mistyped_input_does_not_spoil_the_run_folder(model: Path, archive: Path, tmp_path: Path) -> None:
    assert score(model, [tmp_path / "typo"], tmp_path / "run") == 2
    assert score(model, [archive], tmp_path / "run") == 0
    assert len(rows(tmp_path / "run")) == 21


def test_retrying_a_run_that_never_was_is_refused_before_anything_is_listed(model: Path, archive: Path, tmp_path: Path) -> None:
    assert score(model, [archive], tmp_path / "run", "--retry-failed") == 4
    assert not (tmp_path / "run" / "manifest").exists()


def test_credentials_in_a_uri_are_not_told(model: Path, tmp_path: Path) -> None:
    from btc_ray.scoring.folder import same_inputs
    from btc_ray.storage.redact import redact_values

    uri = "https://user:PLANTED-SECRET@host/a.zip?X-Amz-Signature=PLANTED-SIGNATURE"
    assert "PLANTED" not in str(redact_values({"input": [uri], "model": uri})) + str(same_inputs([uri]))


@contextlib.contextmanager
def signed_site(folder: Path) -> Iterator[str]:
    """A web server that gives what it has whatever the query says: a.zip with in.jpg, and b.jpg."""
    write(folder, {"a.zip": zip_bytes([("in.jpg", jpeg(3))]), "b.jpg": jpeg(4)})
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Signed, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def everything(folder: Path) -> str:
    """Whatever stands in a folder, tables unpacked."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    tables = [pq.read_table(path).to_pandas().to_csv() for path in files if path.suffix == ".parquet"]
    return "\n".join([*tables, *(path.read_bytes().decode("latin-1") for path in files)])


def test_the_signatures_of_web_addresses_stand_nowhere_in_a_run(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with signed_site(tmp_path / "site") as site:
        user = site.replace("://", "://reader:PLANTED0@")
        inputs = [f"{site}/a.zip?sv=2024&sig=PLANTED1", f"{site}/b.jpg?X-Amz-Signature=PLANTED2", str(tmp_path / "list.txt")]
        (tmp_path / "list.txt").write_text(f"{site}/gone.jpg?sig=PLANTED3\n{user}/also-gone.jpg\n")
        assert score(model, inputs, tmp_path / "run", "--max-bad-fraction", "1") == 0
        found = rows(tmp_path / "run").set_index("uri")["status"].to_dict()
        names = {
            f"{site}/a.zip::in.jpg": "ok",
            f"{site}/b.jpg": "ok",
            f"{site}/gone.jpg": "failed",
            f"{site}/also-gone.jpg": "failed",
        }
        assert found == names
        assert (tmp_path / "run" / "summary.html").read_text().count("data:image") >= 2  # read again, for the pictures
        # The same command reads them again: what it is given has the key.
        write(tmp_path / "site", {"gone.jpg": jpeg(5)})
        assert score(model, inputs, tmp_path / "run", "--max-bad-fraction", "1", "--retry-failed") == 0
        assert rows(tmp_path / "run").set_index("uri")["status"].to_dict() == names | {f"{site}/gone.jpg": "ok"}
        # A later night knows them, with other signatures too where the server tells versions; its own files hold none either.
        (tmp_path / "list.txt").write_text(f"{site}/gone.jpg?sig=PLANTED4\n")
        assert score(model, inputs, tmp_path / "next", "--known", str(tmp_path / "run"), "--known-by", "content") == 0
    assert "PLANTED" not in everything(tmp_path / "run") + everything(tmp_path / "next") + "".join(capsys.readouterr())
    assert "btc-ray-sealed=" in everything(tmp_path / "run" / "manifest")


def test_a_run_that_goes_on_with_another_list_says_that_it_has_no_signatures(model: Path, tmp_path: Path) -> None:
    with signed_site(tmp_path / "site") as site:
        (tmp_path / "list.txt").write_text(f"{site}/b.jpg?sig=1\n{site}/gone.jpg?sig=1\n")
        assert score(model, [tmp_path / "list.txt"], tmp_path / "run", "--max-bad-fraction", "1") == 0
        write(tmp_path / "site", {"gone.jpg": jpeg(5)})
        (tmp_path / "list.txt").write_text(f"{site}/b.jpg?sig=2\n{site}/gone.jpg?sig=2\n")
        assert score(model, [tmp_path / "list.txt"], tmp_path / "run", "--max-bad-fraction", "1", "--retry-failed") == 0
    gone = rows(tmp_path / "run").set_index("uri").loc[f"{site}/gone.jpg"]
    assert gone["status"] == "failed"
    assert "signature or password, which a run does not keep" in gone["error"]


class Signed(SimpleHTTPRequestHandler):
    """A server that gives what it has whatever the query says."""

    def log_message(self, *_: object) -> None:
        pass


def test_a_file_system_without_locks_is_told_and_written_to(
    model: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    assert score(model, [archive], tmp_path / "run") == 0
    assert "without locks (Function not implemented)" in capsys.readouterr().err


def test_a_dead_cluster_in_the_environment_does_not_matter_to_a_small_archive(
    model: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    assert score(model, [archive], tmp_path / "run") == 0
    assert state(tmp_path / "run")["sessions"][0]["path"] == "in-process"
