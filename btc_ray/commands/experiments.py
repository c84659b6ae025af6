"""`btc-ray experiments`: the grid is read, run, and told: table, figures, page, verdict."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from btc_ray import NOT_FOR_DIAGNOSIS, settings
from btc_ray.errors import COMPLETE
from btc_ray.progress import duration, say
from btc_ray.storage import Place
from btc_ray.storage.outputs import check_output
from btc_ray.workers.session import ray_session

if TYPE_CHECKING:
    import pyarrow as pa

    from btc_ray.training.experiments import Compared
    from btc_ray.training.grid import Experiment

ROWS, SUMMARY, PAGE, FIGURES = "experiments.parquet", "summary.json", "experiments.html", "figures"


def experiments(chosen: settings.Experiments) -> int:
    """Compare a grid; the same command again continues, and a longer grid or more seeds run only what is new.

    Raises GridError, LabelledDataError, SplitError, WeightsError, PoolError for unusable arguments, OutputError where the output
    holds something else.
    """
    grid = _grid(chosen)
    output = Place(chosen.output, chosen.storage())
    check_output(output, ours=(ROWS, SUMMARY, PAGE, FIGURES, ".*"))
    from btc_ray.training.prepare import prepare_experiments

    prepared = prepare_experiments(chosen)  # whatever can be wrong is found before the first image is read
    from btc_ray.training.experiments import run_grid

    compared = run_grid(chosen, prepared, grid, ray_session=ray_session(chosen))
    record = _record(chosen, grid, compared, prepared.table)
    _write(chosen, record, compared)
    from btc_ray.reports.experiments.record import table_lines

    print("\n".join(table_lines(record)))
    print(record["verdict"]["headline"])
    print("\n".join(record["verdict"]["paragraphs"]))
    print(f"page         {output / PAGE}")
    print(f"rows         {output / ROWS}")
    print(f"summary      {output / SUMMARY}")
    return COMPLETE


def _grid(chosen: settings.Experiments) -> "list[Experiment]":
    from btc_ray.training.grid import REPORT_GRID, GridError, expand, read_grid

    if chosen.grid is None:
        return expand(REPORT_GRID, "the report's grid", most=chosen.max_experiments)
    try:
        content = Place(chosen.grid, chosen.storage()).read()
    except OSError as error:
        raise GridError(f"--grid {chosen.grid} cannot be read: {error.strerror or error}.") from error
    return read_grid(content, f"--grid {chosen.grid}", most=chosen.max_experiments)


def _record(chosen: settings.Experiments, grid: "list[Experiment]", compared: "Compared", table: "pa.Table") -> dict[str, Any]:
    """What summary.json holds and the page shows."""
    from btc_ray.dataset.data import shown_settings
    from btc_ray.dataset.table import shown_source
    from btc_ray.model.bundle import library_versions
    from btc_ray.reports.experiments.record import assess

    counts = compared.counts
    record = assess(
        compared.history,
        settings_of={experiment.name: asdict(experiment.recipe) for experiment in grid},
        counts=counts,
        classes=compared.classes,
        right=compared.right,
        groups=compared.groups,
    )
    new = compared.runs - compared.kept
    left_out = "; ".join(f"{number:,} {reason}" for reason, number in counts["left_out"].items())
    return {
        "kind": "experiments",
        "notice": NOT_FOR_DIAGNOSIS,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **record,
        "fingerprint": compared.fingerprint,
        "facts": {
            "Data": shown_source(table, chosen.data),
            "Data fingerprint": compared.fingerprint,
            "Initial weights": chosen.weights,
            "Split": f"--split {chosen.split}, --seed {chosen.seed}: "
            + ", ".join(f"{sum(counts[name].values()):,} {name}" for name in ("train", "validation", "test")),
            "Test patients": f"{compared.patients:,} known, {len(set(compared.groups.tolist())):,} units with the copies of the others",
            "Left out": left_out or "none",
            "Grid": "the report's, and our default" if chosen.grid is None else chosen.grid,
            "Runs": f"{compared.runs:,} runs"
            + (f", {compared.kept:,} of them kept from before" if compared.kept else "")
            + (f"; {new:,} took {duration(compared.seconds)}" if new else ""),
        },
        "versions": library_versions(),
        "settings": shown_settings(chosen, table),
    }


def _write(chosen: settings.Experiments, record: Mapping[str, Any], compared: "Compared") -> None:
    """The files of a grid; the page, which tells of all others, comes last."""
    from btc_ray.reports.experiments.record import experiment_figures, write_experiments

    say("Drawing the figures …")
    output = Place(chosen.output, chosen.storage())
    (output / PAGE).remove()  # it told of the numbers before
    (output / ROWS).write_table(compared.history)
    pictures = experiment_figures(compared.history, record)
    for name, picture in pictures.items():
        (output / FIGURES / f"{name}.png").write(picture)
    (output / SUMMARY).write_json(record)
    (output / PAGE).write(write_experiments(record, pictures).encode())
