"""What cannot be printed is lost, and the job is not: services without a terminal, full logs, closed pipes."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from btc_ray import cli
from btc_ray.storage.streams import redacted_streams, what_was_lost

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full, which Linux has")


def run(tmp_path: Path, job: str, redirected: str) -> subprocess.CompletedProcess[str]:
    """A job whose run prints on both streams and leaves a file, by a shell that redirects as said."""
    code = (
        "import sys; from btc_ray import cli; from btc_ray.progress import say\n"
        "def job(chosen):\n"
        f"    say('working'); print('result'); open({str(tmp_path / 'done')!r}, 'w').write('done'); return 0\n"
        f"cli.COMMANDS['{job}'] = cli.Command(settings=object, run=job, around_a_job=True)\n"
        f"sys.exit(cli.main(['{job}']))"
    )
    return subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" {redirected}', sys.executable, code], check=False, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("job", "redirected", "ends_with"),
    [
        ("score", ">&-", 0),
        ("score", "2>&-", 0),
        ("score", "<&- >&- 2>&-", 0),
        pytest.param("score", ">/dev/full", 0, marks=needs_full),
        pytest.param("score", "2>/dev/full", 0, marks=needs_full),
        pytest.param("score", ">/dev/full 2>&1", 0, marks=needs_full),
        pytest.param("info", ">/dev/full", 1, marks=needs_full),  # what it prints is its result
        ("info", ">&-", 0),
    ],
)
def test_streams_that_are_closed_or_full_do_not_end_a_job(tmp_path: Path, job: str, redirected: str, ends_with: int) -> None:
    done = run(tmp_path, job, redirected)
    assert done.returncode == ends_with
    assert (tmp_path / "done").read_text() == "done"
    assert "Traceback" not in done.stderr
    if redirected == ">/dev/full":
        assert "what it printed is lost: No space left on device" in done.stderr


def test_a_reader_that_goes_away_ends_info_quietly(tmp_path: Path) -> None:
    done = run(tmp_path, "info", "| true")
    assert done.returncode == 0
    assert done.stderr == "working\n"


def test_the_number_of_a_closed_stream_is_not_given_to_a_file(tmp_path: Path) -> None:
    code = (
        "import os; from btc_ray.storage.streams import open_closed_streams; open_closed_streams(); "
        f"file = open({str(tmp_path / 'rows')!r}, 'w'); os.write(1, b'a library speaks'); os.write(2, b'another'); print('ours')"
    )
    assert subprocess.run(["sh", "-c", '"$0" -c "$1" >&- 2>&-', sys.executable, code], check=False).returncode == 0
    assert (tmp_path / "rows").read_text() == ""


class Full(io.StringIO):
    def flush(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_was_lost_is_known_through_streams_in_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Full())
    with redacted_streams():
        assert isinstance(sys.stdout, io.TextIOBase)
        with redacted_streams({"key": "secret"}):
            print("result")
        lost = what_was_lost()
    assert lost is not None
    assert lost.errno == errno.ENOSPC


def test_nothing_was_lost_where_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    with redacted_streams():
        print("result")
        assert what_was_lost() is None
