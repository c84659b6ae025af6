"""Progress is a line a person can read in a log."""

import pytest

from btc_ray import progress
from btc_ray.progress import Progress, duration, say
from btc_ray.storage.streams import redacted_streams


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (89, "89 s"), (600, "10 min"), (12_000, "3 h 20 min")])
def test_durations_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_log_gets_a_line_now_and_then_and_one_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    with Progress("Scoring", 100, done=40) as bar:
        bar.advance(30, bad=2)
        bar.advance(30)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Scoring: 70 of 100 images, ")
    assert lines[0].endswith("left, 2 bad")
    assert lines[-1].startswith("Scoring: 100 of 100 images, ")
    assert len(lines) == 3


def test_the_rate_counts_only_what_this_process_did() -> None:
    with Progress("Scoring", 1_000_000, done=999_000) as bar:
        assert bar.rate() == 0
        bar.advance(1)
        assert bar.done == 999_001


def test_a_name_that_a_terminal_would_obey_is_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    say("left out: \x1b[2J\x1b]0;title\x07scan\u202egpj.exe\r\x9b31m: \tempty\nnext")
    shown = capsys.readouterr().err
    assert shown == "left out: \\x1b[2J\\x1b]0;title\\x07scan\\u202egpj.exe\\x0d\\x9b31m: \tempty\nnext\n"


def test_what_is_printed_is_not_obeyed_either(capsys: pytest.CaptureFixture[str]) -> None:
    with redacted_streams():
        print("glioma\x1b[31m", "\u2066x\u2069")
    assert capsys.readouterr().out == "glioma\\x1b[31m \\u2066x\\u2069\n"
