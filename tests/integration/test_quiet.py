"""Nothing leaves the machine in the demo, which trains, measures, scores and reviews, and while a local archive is scored, here and on
Ray: no name is looked up, nothing is sent, no client id is left behind; and nobody comes in."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
SPY = """
import os, socket, urllib.request

def noted(kind, real):
    def called(*arguments, **named):
        what = getattr(arguments[0], "full_url", arguments[0])
        if str(what) not in ("127.0.0.1", "localhost", "::1"):
            with open(os.environ["CALLS"], "a") as file:
                file.write(f"{kind} {what}\\n")
        return real(*arguments, **named)
    return called

socket.getaddrinfo = noted("looked up", socket.getaddrinfo)
socket.gethostbyname = noted("looked up", socket.gethostbyname)
socket.create_connection = noted("connected to", socket.create_connection)
urllib.request.urlopen = noted("sent to", urllib.request.urlopen)
"""


def spied(tmp_path: Path, *arguments: object) -> "subprocess.Popen[str]":
    """The command with a spy in each of its Python processes, and a home folder of its own."""
    spy, home = tmp_path / "spy", tmp_path / "home"
    spy.mkdir()
    home.mkdir()
    (spy / "sitecustomize.py").write_text(SPY)
    path = os.pathsep.join([str(spy), str(Path(__file__).resolve().parents[2])])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"PYTHONPATH": path, "CALLS": str(tmp_path / "calls.txt"), "HOME": str(home)}
    environment.pop("CI", None)  # which silences what is to be heard
    command = [sys.executable, "-m", "btc_ray.cli", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)


def heard(tmp_path: Path) -> tuple[str, list[Path]]:
    """What was looked up, connected to or sent, and which files stand in the home folder but matplotlib's list of fonts."""
    calls = tmp_path / "calls.txt"
    return (
        calls.read_text() if calls.exists() else "",
        [path for path in (tmp_path / "home").rglob("*") if path.is_file() and path.parent.name != "matplotlib"],
    )


def test_scoring_a_local_folder_tells_nobody(model: Path, phantoms: Path, tmp_path: Path) -> None:
    flags = ("--model", model, "--input", phantoms / "Testing", "--output", tmp_path / "run")
    process = spied(tmp_path, "score", *flags)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    assert heard(tmp_path) == ("", [])


@pytest.mark.ray
def test_scoring_on_a_ray_of_its_own_tells_nobody_and_a_stranger_is_refused(model: Path, phantoms: Path, tmp_path: Path) -> None:
    flags = ("--model", model, "--input", phantoms / "Testing", "--output", tmp_path / "run", "--local-rows", 0)
    watch(spied(tmp_path, "score", *flags))
    assert heard(tmp_path) == ("", []), "not even a token lies in the home folder"


@pytest.mark.ray
def test_two_workers_of_a_training_find_each_other_and_nobody_else_does(phantoms: Path, tmp_path: Path) -> None:
    flags = (
        "--data",
        phantoms,
        "--output",
        tmp_path / "model",
        "--weights",
        "none",
        "--train",
        "all",
        "--size",
        64,
        "--epochs",
        1,
    )
    watch(spied(tmp_path, "retrain", *flags, "--resolutions", 64, "--split", "folders", "--workers", 2))
    assert (tmp_path / "model" / "bundle.json").is_file()
    assert heard(tmp_path) == ("", [])


@pytest.mark.ray
def test_the_demo_trains_measures_scores_and_reviews_and_tells_nobody(tmp_path: Path) -> None:
    flags = ("--output", tmp_path / "demo", "--images-per-class", 8, "--epochs", 1)
    watch(spied(tmp_path, "demo", *flags))
    for page in ("run/summary.html", "run/review.html", "exams/exams.html", "evaluation/evaluation.html"):
        assert (tmp_path / "demo" / page).is_file()
    assert heard(tmp_path) == ("", [])


def watch(process: "subprocess.Popen[str]") -> None:
    """Wait for the command; meanwhile try every port of its family from other addresses than 127.0.0.1."""
    listening: set[str] = set()
    ports: set[int] = set()
    answered: list[tuple[str, int]] = []
    while process.poll() is None:
        members = family(process)
        for member in members:
            with contextlib.suppress(psutil.Error):
                found = {
                    (each.laddr.ip, each.laddr.port) for each in member.net_connections() if each.status == psutil.CONN_LISTEN
                }
                listening |= {ip for ip, _ in found}
                new = {port for _, port in found} - ports
                ports |= new
                new -= of_others({each.pid for each in members})
                answered += [(address, port) for address in elsewhere() for port in new if answers(address, port)]
        time.sleep(0.2)
    said = process.stderr.read() if process.stderr else ""
    assert process.returncode == 0, said
    assert len(ports) > 5, "the Ray of this job was not seen"
    assert listening <= LOOPBACK
    assert answered == []


def of_others(family: set[int]) -> set[int]:
    """Ports that other programs of this machine have beyond loopback, such as the Ray of a test beside this one."""
    found = psutil.net_connections()
    return {
        each.laddr.port
        for each in found
        if each.status == psutil.CONN_LISTEN and not (each.laddr.ip in LOOPBACK or each.pid in family)
    }


def elsewhere() -> list[str]:
    """Addresses of this machine that a stranger would come in by, and a second one of the loopback's."""
    own = [found.address for names in psutil.net_if_addrs().values() for found in names if found.family == socket.AF_INET]
    return ["127.0.0.2", *(address for address in own if not address.startswith("127."))]


def answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError:
        return False
    return True


def family(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    return []


def test_the_spy_hears_what_is_sent(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SPY)
    code = "import socket\ntry:\n    socket.getaddrinfo('example.invalid', 80)\nexcept OSError:\n    pass"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "CALLS": str(tmp_path / "calls.txt")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert (tmp_path / "calls.txt").read_text() == "looked up example.invalid\n"
