"""What is checked before a job is sent, and how its log is followed."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from btc_ray.cli import main
from btc_ray.deploy import submit
from btc_ray.settings import Retrain, Score

NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens
CLOUD = ("--model", "s3://b/model", "--input", "s3://b/in", "--output", "s3://b/run")


def score(**named: object) -> Score:
    return Score(**{"model": "s3://b/model", "input": ("s3://b/in",), "output": "s3://b/run", **named})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("score", "--model", "/here/model", *CLOUD[2:]), "--model /here/model is a path on this machine"),
        (("score", *CLOUD[:-1], "run"), "--output run is a path on this machine"),
        (("score", *CLOUD[:-1], "shared/run", "--shared", "."), "--output shared/run is a relative path"),
        (("retrain", "--data", "s3://b/d", "--output", "s3://b/m", "--weights", "/w.pth"), "--weights /w.pth is a path"),
        (("score", *CLOUD, "--storage-options", "secret=hush"), "a flag holds a credential"),
        (("score", *CLOUD), f"no Ray Jobs endpoint at {NOWHERE}"),
        (("demo", "--output", "x"), "which job?"),
        ((), "which job?"),
    ],
)
def test_what_cannot_run_there_is_refused_before_anything_is_sent(
    words: tuple[str, ...], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", *words, "--address", NOWHERE]) == 2
    told = capsys.readouterr().err
    assert reason in told
    assert "hush" not in told


@pytest.mark.parametrize("words", [("--address", "HEAD:8265"), (), ("--address", NOWHERE, "--attach", "a", "--stop", "b")])
def test_flags_that_make_no_sense_are_refused(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(["submit", "score", *CLOUD, *words])
    assert ended.value.code == 2


def test_the_same_job_has_the_same_id_and_another_job_another() -> None:
    same = submit.submission_id("score", score())
    assert same == submit.submission_id("score", score(debug=True, cpus=7))
    assert same.startswith("btc-ray-score-")
    others = [
        submit.submission_id("score", score(output="s3://b/other")),
        submit.submission_id("score", score(batch_size=4)),
        submit.submission_id("retrain", Retrain(data="s3://b/d", output="s3://b/run")),
    ]
    assert len({same, *others}) == 4


def test_folders_that_the_cluster_shares_may_be_named(tmp_path: Path) -> None:
    job = score(model=str(tmp_path / "models" / "a"), output=f"file://{tmp_path}/run")
    submit.check_visible(job, shared=[str(tmp_path)])
    with pytest.raises(submit.SubmissionError):
        submit.check_visible(job, shared=[str(tmp_path / "models")])


def test_the_versions_of_this_environment_are_pinned_and_ray_is_the_clusters() -> None:
    pins = submit.pinned()
    assert any(pin.startswith("torch==2.") for pin in pins)
    assert not any(pin.startswith(("ray==", "pytest==")) for pin in pins)


class _Breaking:
    """A client whose connection breaks twice, each time after a little more of the log."""

    def __init__(self) -> None:
        self.tries = 0

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        self.tries += 1
        yield "one\n"
        if self.tries == 1:
            raise RuntimeError("WebSocket connection closed unexpectedly")
        yield "two\nthr"
        if self.tries == 2:
            raise RuntimeError("WebSocket connection closed unexpectedly")
        yield "ee\n"

    def get_job_status(self, job_id: str) -> object:
        return type("Status", (), {"value": "SUCCEEDED" if self.tries == 3 else "RUNNING"})


def test_a_log_is_taken_up_again_where_the_connection_broke(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(submit, "_RETURNING", (0,))
    submit._stream(_Breaking(), "btc-ray-score-1")
    assert capsys.readouterr().out == "one\ntwo\nthree\n"
