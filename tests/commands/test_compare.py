"""`btc-ray info --compare`: two run folders in, wherever they are; text or one JSON document out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from btc_ray.cli import main
from tests.conftest import Bucket
from tests.scores import row, write_run


@pytest.fixture
def runs(tmp_path: Path) -> tuple[str, str]:
    """Two runs of four images: one label changes, and one image cannot be read in the second."""
    first = [row("/in/a/1.png", "glioma", 0.75), row("/in/a/2.png"), row("/in/b/3.png"), row("/in/b/4.png")]
    second = [row("/in/a/1.png", "notumor", 0.5), row("/in/a/2.png"), row("/in/b/3.png", None), row("/in/b/5.png")]
    return (
        write_run(str(tmp_path / "one"), first[:2], first[2:]),
        write_run(str(tmp_path / "two"), second, model_id="f" * 16, engine="openvino", precision="bf16"),
    )


def test_the_text_says_what_computed_and_what_changed(runs: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--compare", *runs]) == 0
    said = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for line in (
        f"model_id 0123456789abcdef {'f' * 16}",
        "engine torch openvino",
        "precision fp32 bf16",
        "Rows, matched by uri",
        "rows in both 3",
        "only in the first 1",
        "only in the second 1",
        "Status: 1 of 3 changed",
        "ok → unreadable 1",
        "Label: 1 of 2 changed: first run down, second run across, rows that are ok in both",
        "glioma 0 1",
        "confidence 0.125000 0.250000",
        "glioma → notumor 0.7500 → 0.5000 /in/a/1.png",
        "Changed labels by folder, 1 of 1 folders",
        "1 /in/a",
    ):
        assert line in said


def test_json_is_one_document_of_the_same(runs: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--compare", *runs, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["first"]["engine"], found["second"]["engine"]) == ("torch", "openvino")
    assert (found["matched_by"], found["in_both"], found["labels_changed"]) == ("uri", 3, 1)
    assert found["label"]["glioma"] == {"glioma": 0, "notumor": 1}
    assert found["differences"]["confidence"] == {"mean": 0.125, "largest": 0.25}
    assert found["folders"] == {"/in/a": 1}


def test_a_moved_archive_is_said_to_be_matched_by_content(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = [write_run(str(tmp_path / name), [row(f"/{name}/1.png")]) for name in ("old", "new")]
    assert main(["info", "--compare", *moved]) == 0
    assert "matched by content_sha256, as the runs share no uri" in capsys.readouterr().out


def test_runs_of_before_there_were_engines_are_compared(
    runs: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = json.loads((tmp_path / "two" / "run.json").read_text())
    del state["fingerprint"]["engine"], state["fingerprint"]["test_time_flips"]
    (tmp_path / "two" / "run.json").write_text(json.dumps(state))
    assert main(["info", "--compare", *runs, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["second"]["engine"] == "torch"


@pytest.mark.parametrize("arguments", [[], ["some/run", "--compare", "a", "b"], ["--compare", "a"]])
def test_a_folder_or_two_runs_are_needed_and_not_both(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["info", *arguments])
    assert caught.value.code == 2
    assert "--compare" in capsys.readouterr().err


def test_what_is_no_complete_run_is_named(runs: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun = write_run(str(tmp_path / "begun"), [row("/in/a/1.png")], complete=False)
    empty = write_run(str(tmp_path / "empty"))
    damaged = write_run(str(tmp_path / "damaged"), [row("/in/a/1.png")])
    (tmp_path / "damaged" / "scores" / "part-00000.parquet").write_bytes(b"PAR1")
    for other, words in (
        (begun, f"{begun} is not complete"),
        (str(tmp_path), f"{tmp_path} is not a run folder"),
        (str(tmp_path / "nowhere"), "nowhere is not a run folder"),
        (empty, f"{empty} has no scores"),
        (damaged, f"{damaged} are damaged"),
    ):
        assert main(["info", "--compare", runs[0], other]) == 2
        said = capsys.readouterr()
        assert words in said.err
        assert (said.out, said.err.count("\n")) == ("", 1)


def test_runs_on_an_object_store_are_compared_with_local_ones(
    runs: tuple[str, str], bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    remote = write_run(f"{bucket.uri}/nights/two", [row("/in/a/1.png")], [row("/in/b/3.png")], options=bucket.options)
    options = [f"{name}={value}" for name, value in bucket.options.items()]
    assert main(["info", "--compare", runs[0], remote, "--json", "--storage-options", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["second"]["run"], found["in_both"], found["labels_changed"]) == (remote, 2, 1)


def test_comparing_loads_neither_torch_nor_ray(runs: tuple[str, str]) -> None:
    code = (
        "import sys; from btc_ray.cli import main; "
        f"main(['info', '--compare', *{runs!r}]); sys.exit(any(name in sys.modules for name in ('torch', 'ray')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
