"""`btc-ray info --runs RUN …`: many runs over one archive, what each added and what changed; neither torch nor Ray is loaded."""

import json
from collections.abc import Iterator
from dataclasses import asdict

import pyarrow as pa
import pyarrow.parquet as pq

from btc_ray import NOT_FOR_DIAGNOSIS, settings
from btc_ray.commands.compare import aligned
from btc_ray.progress import say
from btc_ray.reports.comparison.comparison import CompareError
from btc_ray.reports.comparison.nights import COLUMNS, Nights, nights
from btc_ray.scoring.earlier import EarlierRun, find_runs
from btc_ray.scoring.folder import RunFolder


def print_nights(chosen: settings.Info) -> int:
    """Print what the complete ones of `chosen.runs` come to. Raises EarlierRunError, and CompareError where there is none."""
    earlier = find_runs(chosen.runs, chosen.storage(), flag="--runs")
    for reason, names in earlier.left_out.items():
        say(f"Warning: {len(names):,} of the runs {'is' if len(names) == 1 else 'are'} left out: {reason}.")
    if not earlier.runs:
        raise CompareError("--runs names no complete run; give folders made by `btc-ray score`, or a glob of them (runs/*).")
    scores = [RunFolder(run.place).score_batches(COLUMNS) for run in earlier.runs]
    found = nights(scores, listed=_listed(earlier.runs[-1]))
    facts = [
        {
            "run": run.name,
            "finished": run.state.finished,
            "model_id": run.state.fingerprint.model_id,
            "known": run.state.known.get("files", 0),
        }
        | asdict(night)
        for run, night in zip(earlier.runs, found.nights, strict=True)
    ]
    if chosen.json:
        record = {"kind": "nights", "notice": NOT_FOR_DIAGNOSIS} | asdict(found) | {"nights": facts}
        print(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False))
        return 0
    columns = ("rows", "new", "again", "label_changed", "status_changed", "newest", "known")
    table = [
        ["run", *(name.replace("_", " ") for name in columns)],
        *([fact["run"], *(fact[name] for name in columns)] for fact in facts),
    ]
    models = sorted({str(fact["model_id"]) for fact in facts})
    print("\n".join([*aligned(table), "", *aligned(_totals(found), right=True)]))
    if len(models) > 1:
        print(f"\nThe runs are of {len(models)} models: {', '.join(models)}")
    return 0


def _totals(found: Nights) -> list[tuple[str, int]]:
    """The newest row of every image, in numbers."""
    return [
        ("images", found.images),
        *((f"  {name}", count) for name, count in [*found.status.items(), *found.label.items()]),
        ("not met by the last listing", found.gone),
    ]


def _listed(run: EarlierRun) -> Iterator[pa.RecordBatch]:
    """The URIs that the last listing met: its rows, and what it knew."""
    folder = RunFolder(run.place)
    yield from folder.score_batches(["uri"])
    if folder.known.exists():
        filesystem, path = folder.known.arrow()
        with pq.ParquetFile(path, filesystem=filesystem) as file:
            yield from file.iter_batches(columns=["uri"])
