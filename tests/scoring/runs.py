"""Running the command as a user does, and reading what it left."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from btc_ray.cli import main


def score(model: Path, inputs: Sequence[Path | str], run: Path, *flags: str) -> int:
    """`btc-ray score` in this process; its exit code."""
    return main(["score", "--model", str(model), "--input", *map(str, inputs), "--output", str(run), *flags])


def start(model: Path, inputs: Sequence[Path | str], run: Path, *flags: str, log: Path) -> subprocess.Popen[bytes]:
    """`btc-ray score` as a process of its own, in a process group of its own; what it says goes to `log`."""
    command = [sys.executable, "-m", "btc_ray.cli", "score", "--model", str(model), "--input", *map(str, inputs)]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with log.open("ab") as sink:
        return subprocess.Popen(
            [*command, "--output", str(run), *flags], stdout=sink, stderr=sink, env=environment, start_new_session=True
        )


def rows(run: Path) -> pd.DataFrame:
    """The published scores, in order of row_id."""
    return pq.read_table(run / "scores").to_pandas().sort_values("row_id", ignore_index=True)


def state(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())
