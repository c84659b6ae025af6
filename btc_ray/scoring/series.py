"""RUN/series and RUN/exams from a run's scores and what is known of its series: written at the end, and again by `btc-ray group`."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from btc_ray.errors import RefusedError
from btc_ray.model.bundle import PREFIX, class_metadata
from btc_ray.scoring.aggregate import exams_table, series_table
from btc_ray.scoring.folder import RunFolder
from btc_ray.scoring.state import FILE, RunState
from btc_ray.studies.rule import check_model, read_rule


@dataclass(frozen=True, kw_only=True)
class Groups:
    """How many series and exams were written."""

    series: int
    selected: int
    exams: int
    without: int  # exams no series of which was scored


def write_groups(folder: RunFolder, state: RunState, *, healthy: str | None) -> Groups | None:
    """Write the tables of a complete run, None where it has no series. `healthy`: the class that is no tumour. Series have a label where
    the run has a rule (`state.series_rule`).

    Raises RefusedError where the run is not complete, or what is known of its series is gone, RuleError for a rule of another model.
    """
    if not state.complete:
        raise RefusedError(f"{folder.place} is not complete: run `btc-ray score` again, it goes on where it was.")
    if not folder.series_known.exists():
        if state.studies:
            raise RefusedError(
                f"{folder.private} is gone, where it stands which slices make a series: group where the run was made."
            )
        return None
    names = [column.removeprefix(PREFIX) for column in state.probability_columns]  # classes as columns have them
    healthy_name = names[state.classes.index(healthy)] if healthy in state.classes else None
    rule = read_rule(state.series_rule, source=str(folder.place / FILE)) if state.series_rule else None
    if rule is not None:
        check_model(
            rule, model_id=state.fingerprint.model_id, preprocess_id=state.fingerprint.preprocess_id, classes=state.classes
        )
    known = folder.series_known.read_table()
    series = series_table(known, _scores(folder), classes=names, healthy=healthy_name, rule=rule)
    exams = exams_table(series, classes=names)
    metadata = class_metadata(state.classes) | {"notice": state.notice, "model_id": state.fingerprint.model_id}
    for place, table in ((folder.series, series), (folder.exams, exams)):
        (place / "part-00000.parquet").write_table(table.replace_schema_metadata(metadata))
    return Groups(
        series=len(series),
        selected=series["selected"].to_pylist().count(True),
        exams=len(exams),
        without=exams["n_selected"].to_pylist().count(0),
    )


def _scores(folder: RunFolder) -> Iterator[pa.RecordBatch]:
    for part in folder.score_parts():
        filesystem, path = part.arrow()
        with pq.ParquetFile(path, filesystem=filesystem) as file:
            if "series_key" in file.schema_arrow.names:
                yield from file.iter_batches()
