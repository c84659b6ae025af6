"""Nothing leaves the machine while a local archive is scored: no name is looked up, nothing is sent, no client id is left behind."""

import os
import subprocess
import sys
from pathlib import Path

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
socket.create_connection = noted("connected to", socket.create_connection)
urllib.request.urlopen = noted("sent to", urllib.request.urlopen)
"""


def test_scoring_a_local_folder_tells_nobody(model: Path, phantoms: Path, tmp_path: Path) -> None:
    spy, home, calls = tmp_path / "spy", tmp_path / "home", tmp_path / "calls.txt"
    spy.mkdir()
    home.mkdir()
    (spy / "sitecustomize.py").write_text(SPY)
    path = os.pathsep.join([str(spy), str(Path(__file__).resolve().parents[2])])
    environment = {**os.environ, "PYTHONPATH": path, "CALLS": str(calls), "HOME": str(home)}
    environment.pop("CI", None)  # which silences what is to be heard
    command = [sys.executable, "-m", "btc_ray.cli", "score", "--model", str(model), "--input", str(phantoms / "Testing")]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "run")], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not calls.exists(), calls.read_text()
    assert not [path for path in home.rglob("*") if path.is_file()]


def test_the_spy_hears_what_is_sent(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SPY)
    code = "import socket\ntry:\n    socket.getaddrinfo('example.invalid', 80)\nexcept OSError:\n    pass"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "CALLS": str(tmp_path / "calls.txt")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert (tmp_path / "calls.txt").read_text() == "looked up example.invalid\n"
