"""Nothing leaves the machine while a local archive is scored: no name is looked up, nothing is sent, no client id is left behind; and
nobody comes in."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

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
    """What was looked up, connected to or sent, and which files stand in the home folder."""
    calls = tmp_path / "calls.txt"
    return (
        calls.read_text() if calls.exists() else "",
        [path for path in (tmp_path / "home").rglob("*") if path.is_file()],
    )


def test_scoring_a_local_folder_tells_nobody(model: Path, phantoms: Path, tmp_path: Path) -> None:
    flags = ("--model", model, "--input", phantoms / "Testing", "--output", tmp_path / "run")
    process = spied(tmp_path, "score", *flags)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    assert heard(tmp_path) == ("", [])


@pytest.mark.ray
def test_a_job_on_a_ray_of_its_own_tells_nobody_and_listens_to_nobody_else(model: Path, phantoms: Path, tmp_path: Path) -> None:
    flags = ("--model", model, "--input", phantoms / "Testing", "--output", tmp_path / "run", "--local-rows", 0)
    process = spied(tmp_path, "score", *flags)
    listening: set[str] = set()
    ports: set[int] = set()
    while process.poll() is None:
        for member in family(process):
            with contextlib.suppress(psutil.Error):
                sockets = [found for found in member.net_connections() if found.status == psutil.CONN_LISTEN]
                listening |= {found.laddr.ip for found in sockets}
                ports |= {found.laddr.port for found in sockets}
        time.sleep(0.2)
    said = process.stderr.read() if process.stderr else ""
    assert process.returncode == 0, said
    assert len(ports) > 5, "the Ray of this job was not seen"
    assert listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert heard(tmp_path) == ("", []), "not even a token lies in the home folder"


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
