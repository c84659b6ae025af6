"""`btc-ray info RUN --register TABLE`: the rows of complete runs in an Iceberg table, each run once and only once.

A run is one snapshot, committed in one step: whoever reads the table sees all of its rows or none. Its own rows say that it is there, under
`run_id` and `run_finished`, so that sending it again changes nothing.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from btc_ray import settings
from btc_ray.errors import UserError
from btc_ray.progress import say
from btc_ray.scoring.earlier import EarlierRun, find_runs
from btc_ray.scoring.folder import RunFolder
from btc_ray.storage import Place

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

RUN_COLUMNS = ("run_id", "run", "run_finished")  # after those of scores
_ATTEMPTS = 10  # where others commit to the same table meanwhile
# Sizes as Arrow holds them; Parquet is a third of it and less.
_PROPERTIES = {"write.target-file-size-bytes": str(128 << 20)}


class RegisterError(UserError):
    """A table that a run cannot be registered in."""


def register_runs(chosen: settings.Info) -> int:
    """Register the complete ones of the runs that are named. Raises RegisterError, EarlierRunError."""
    named = chosen.runs or (str(chosen.path),)
    earlier = find_runs(named, chosen.storage(), flag="--runs" if chosen.runs else "--path")
    for reason, names in earlier.left_out.items():
        say(f"Warning: {len(names):,} of the runs {'is' if len(names) == 1 else 'are'} left out: {reason}.")
    if not earlier.runs:
        raise RegisterError("no complete run is named; give folders made by `btc-ray score`, or a glob of them with --runs.")
    catalog = open_catalog(chosen)
    for run in earlier.runs:
        new = register(run, str(chosen.register), catalog)
        print(
            f"{run.name}: " + ("registered" if new else "nothing to do, its rows are there" if _rows(run) else "it has no rows")
        )
    return 0


def open_catalog(chosen: settings.Info) -> "Catalog":
    """The catalogue of `chosen.catalog`, else one in SQLite in the folder `chosen.warehouse`. Raises RegisterError."""
    try:
        from pyiceberg.catalog import load_catalog
    except ImportError as error:
        raise RegisterError("--register needs pyiceberg: pip install 'btc-ray[iceberg]'.") from error
    properties = chosen.catalog_properties()
    if chosen.warehouse is not None:
        warehouse = Place(chosen.warehouse)
        if warehouse.is_local:
            warehouse.path().mkdir(parents=True, exist_ok=True)
            properties = {
                "type": "sql",
                "uri": f"sqlite:///{warehouse.path()}/catalog.db",
                "warehouse": str(warehouse.path()),
            } | properties
        elif "uri" not in properties:
            raise RegisterError(
                f"a catalogue in SQLite stands on this machine: beside --warehouse {warehouse} give --catalog uri=…."
            )
        else:
            properties = {"type": "sql", "warehouse": warehouse.uri} | properties
    try:
        return load_catalog("btc-ray", **properties)
    except Exception as error:  # each kind of catalogue raises its own
        raise RegisterError(
            f"the catalogue cannot be opened ({type(error).__name__}: {error}); check --catalog and --warehouse."
        ) from error


def register(run: EarlierRun, name: str, catalog: "Catalog") -> bool:
    """Commit the rows of a complete run to the table `name` (NAMESPACE.TABLE), which is made where there is none; whether it changed.

    Rows of the same run from before a `--retry-failed` are replaced. Raises RegisterError; then the table is as it was.
    """
    from pyiceberg.exceptions import CommitFailedException
    from pyiceberg.expressions import EqualTo

    schema = _schema(run)
    if schema is None or not _rows(run):
        return False
    namespace, _, _ = name.rpartition(".")
    catalog.create_namespace_if_not_exists(namespace)
    catalog.create_table_if_not_exists(name, schema=schema, properties=_PROPERTIES)
    for _ in range(_ATTEMPTS):
        table = catalog.load_table(name)
        if table.spec().fields:
            raise RegisterError(f"{name} is partitioned; --register writes tables that it made itself. Give another name.")
        finished = _finished(table, run)
        if finished == (run.state.finished or ""):
            return False
        # Of this copy alone: pyiceberg would try a commit that came too late again without asking whether the run has come meanwhile.
        table.metadata.properties["commit.retry.num-retries"] = "0"
        try:
            with table.transaction() as changes:
                with changes.update_schema() as columns:
                    columns.union_by_name(schema)
                if finished is not None:
                    changes.delete(EqualTo("run_id", run.state.run_id))
                changes.append(pa.RecordBatchReader.from_batches(schema, _batches(run, schema)))
        except CommitFailedException:
            continue
        return True
    raise RegisterError(f"others change {name} without pause; run the same command again.")


def _rows(run: EarlierRun) -> int:
    return run.state.manifest.rows if run.state.manifest else 0


def _schema(run: EarlierRun) -> pa.Schema | None:
    batch = next(RunFolder(run.place).score_batches(), None)
    if batch is None:
        return None
    columns = [field.with_nullable(True).remove_metadata() for field in batch.schema]
    return pa.schema([*columns, *(pa.field(name, pa.string()) for name in RUN_COLUMNS)])


def _finished(table: "Table", run: EarlierRun) -> str | None:
    """When the run was finished whose rows the table has; None where it has none."""
    from pyiceberg.expressions import EqualTo

    found = table.scan(row_filter=EqualTo("run_id", run.state.run_id), selected_fields=("run_finished",), limit=1).to_arrow()
    return found["run_finished"][0].as_py() if len(found) else None


def _batches(run: EarlierRun, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows with the columns of their run. Raises RegisterError at the end where there are fewer or more than `run.json` says."""
    told: dict[str, Any] = {"run_id": run.state.run_id, "run": run.name, "run_finished": run.state.finished or ""}
    rows = 0
    for batch in RunFolder(run.place).score_batches():
        rows += len(batch)
        columns = [*batch.columns, *(pa.array([told[name]] * len(batch), pa.string()) for name in RUN_COLUMNS)]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)
    if rows != _rows(run):
        raise RegisterError(f"{run.name} holds {rows:,} of the {_rows(run):,} rows that run.json names; bring its files back.")
