"""Whether the files of a run hold the rows that run.json names."""

import pyarrow as pa

from btc_ray.scoring.finish import IncompleteError
from btc_ray.scoring.folder import RunFolder
from btc_ray.scoring.state import RunState
from btc_ray.storage import Place
from btc_ray.storage.tables import row_count


def is_finished(folder: RunFolder, state: RunState) -> bool:
    """Whether what a driver before this one was about to publish is still there, moved or not, with every row."""
    rows = 0
    for name in state.finishing or ():
        part = folder.finished / name
        try:
            rows += row_count(part if part.exists() else folder.scores / name)
        except (pa.ArrowInvalid, OSError):
            return False
    return state.counts is None or rows == state.counts.rows


def check_whole(folder: RunFolder, state: RunState) -> None:
    """Hold the rows of the manifest, and of a complete run those of the scores, against run.json. Raises IncompleteError."""
    if state.manifest is not None:
        _check_rows("manifest", folder.manifest, state.manifest.rows)
    if state.complete and state.counts is not None:
        _check_rows("scores", folder.scores, state.counts.rows)


def _check_rows(what: str, folder: Place, rows: int) -> None:
    found = 0
    for part in folder.files(".parquet"):
        try:
            found += row_count(part)
        except (pa.ArrowInvalid, OSError) as error:
            raise IncompleteError(f"{part} is damaged ({error}). The run cannot go on; use another --output.") from error
    if found != rows:
        raise IncompleteError(
            f"{folder} holds {found:,} of the {rows:,} rows that run.json names: files of the {what} were lost or changed. "
            "Bring them back, or use another --output."
        )
