"""What a training run tells the person who waits: a line an epoch, TensorBoard files, and MLflow where asked for."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from btc_ray.progress import say
from btc_ray.training.errors import MLflowMissingError
from btc_ray.workers.counting import ProgressChannel, progress_channel

Rows = list[dict[str, Any]]


@contextmanager
def writing(
    *, epochs: int, folder: str | None, mlflow: str | None, name: str, parameters: Mapping[str, Any]
) -> Iterator[Callable[[Rows], None]]:
    """Gives what says and records rows of the history at once. Raises MLflowMissingError."""
    sinks: list[_Sink] = [_Lines(epochs)]
    if folder:
        sinks.append(_TensorBoard(folder))
    if mlflow:
        sinks.append(_MLflow(mlflow, name, parameters))

    def write(rows: Rows) -> None:
        for sink in sinks:
            for row in rows:
                sink.write(row)

    try:
        yield write
    finally:
        for sink in sinks:
            sink.close()


@contextmanager
def reading(
    *, epochs: int, folder: str | None, mlflow: str | None, name: str, parameters: Mapping[str, Any]
) -> Iterator[ProgressChannel]:
    """Gives the journal for workers to write to; what they write is said and recorded until the block ends. Raises
    MLflowMissingError."""
    done = threading.Event()

    def follow(journal: ProgressChannel, write: Callable[[Rows], None]) -> None:
        seen = 0
        while True:
            last = done.wait(1.0)
            rows = journal.since(seen)
            seen += len(rows)
            write(rows)
            if last:
                return

    with (
        writing(epochs=epochs, folder=folder, mlflow=mlflow, name=name, parameters=parameters) as write,
        progress_channel() as journal,
    ):
        thread = threading.Thread(target=follow, args=(journal, write), daemon=True)
        thread.start()
        try:
            yield journal
        finally:
            done.set()
            thread.join(timeout=30)


class _Sink(Protocol):
    """Where the rows of the history go."""

    def write(self, row: Mapping[str, Any]) -> None: ...
    def close(self) -> None: ...


class _Lines:
    """`epoch 3/18  train loss 0.41, accuracy 0.94 · validation loss 0.35, accuracy 0.96`, on stderr."""

    def __init__(self, epochs: int) -> None:
        self._epochs, self._train = epochs, ""

    def write(self, row: Mapping[str, Any]) -> None:
        result = f"{row['split']} loss {row['loss']:.4f}, accuracy {row['accuracy']:.4f}"
        if row["split"] == "train":
            self._train = result
        else:
            say(f"epoch {row['epoch']}/{self._epochs}  {self._train} · {result}")

    def close(self) -> None: ...


class _TensorBoard:
    def __init__(self, folder: str) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(folder)

    def write(self, row: Mapping[str, Any]) -> None:
        for name in ("loss", "accuracy"):
            self._writer.add_scalar(f"{name}/{row['split']}", row[name], row["epoch"])
        self._writer.add_scalar("learning_rate", row["learning_rate"], row["epoch"])
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _MLflow:
    def __init__(self, uri: str, name: str, parameters: Mapping[str, Any]) -> None:
        try:
            import mlflow
        except ImportError as error:
            raise MLflowMissingError("--mlflow needs MLflow: pip install 'btc-ray[mlflow]'.") from error
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment("btc-ray")
        self._mlflow = mlflow
        mlflow.start_run(run_name=name)
        mlflow.log_params(dict(parameters))

    def write(self, row: Mapping[str, Any]) -> None:
        values = {f"{row['split']}_{name}": row[name] for name in ("loss", "accuracy")} | {"learning_rate": row["learning_rate"]}
        self._mlflow.log_metrics(values, step=row["epoch"])

    def close(self) -> None:
        self._mlflow.end_run()
