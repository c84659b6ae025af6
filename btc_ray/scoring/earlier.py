"""Runs of before, named by URIs and globs: which of them are complete, and which gave the rows that a bundle would give now."""

import glob
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from btc_ray.archive.globs import is_glob
from btc_ray.errors import RefusedError, UserError
from btc_ray.scoring.state import Fingerprint, RunState, difference, read_state
from btc_ray.storage import Place, absolute, local_path, scheme
from btc_ray.storage.retries import retrying

_THREADS = 16  # a year of nights is 365 small files


class EarlierRunError(UserError):
    """A run that is named and is none."""


@dataclass(frozen=True, kw_only=True)
class EarlierRun:
    """A run folder and what its `run.json` says."""

    place: Place
    state: RunState

    @property
    def name(self) -> str:
        """Its URI without credentials, for tables and messages."""
        return str(self.place)


@dataclass(frozen=True, kw_only=True)
class EarlierRuns:
    """The complete runs in the order in which they were finished, and by reason the names of those that are of no use."""

    runs: list[EarlierRun]
    left_out: dict[str, list[str]]


def find_runs(named: Sequence[str], options: Mapping[str, str], *, flag: str, but: Place | None = None) -> EarlierRuns:
    """The runs that `named` (URIs, and globs of folders) stand for, each once; `but` is the folder of tonight, which a glob meets too.

    What a glob meets and is no run is passed over; a run that is named itself has to be one. Raises EarlierRunError, with `flag`.
    """
    places: dict[str, bool] = {}  # in the order named, each with whether it was named itself
    for uri in named:
        itself = not is_glob(uri)
        for found in [absolute(uri)] if itself else _matches(uri, options):
            places[found] = places.get(found, False) or itself
    if but is not None:
        places.pop(absolute(but.uri), None)
    with ThreadPoolExecutor(_THREADS) as pool:
        states = list(pool.map(lambda uri: _state(Place(uri, options)), places))
    runs: list[EarlierRun] = []
    left_out: defaultdict[str, list[str]] = defaultdict(list)
    for (uri, itself), state in zip(places.items(), states, strict=True):
        place = Place(uri, options)
        if isinstance(state, RunState) and state.complete:
            runs.append(EarlierRun(place=place, state=state))
        elif isinstance(state, RunState):
            left_out["not complete"].append(str(place))
        elif itself:
            raise EarlierRunError(f"{flag} {place} is no run folder of `btc-ray score` ({state}); check the spelling.")
        elif isinstance(state, RefusedError):
            left_out["its run.json is damaged, or of another job"].append(str(place))
    return EarlierRuns(runs=sorted(runs, key=lambda run: (run.state.finished or "", run.place.uri)), left_out=dict(left_out))


def of_this_model(earlier: EarlierRuns, now: Fingerprint, *, int8_id: str | None) -> EarlierRuns:
    """Those whose rows a run with the fingerprint `now` would give again, whatever its inputs are and which series it takes."""
    runs: list[EarlierRun] = []
    left_out = defaultdict(list, {reason: list(names) for reason, names in earlier.left_out.items()})
    for run in earlier.runs:
        begun = run.state.fingerprint
        if found := difference(begun, replace(now, inputs=begun.inputs, series=begun.series), int8_id=int8_id):
            left_out[found].append(run.name)
        else:
            runs.append(run)
    return EarlierRuns(runs=runs, left_out=dict(left_out))


def _matches(pattern: str, options: Mapping[str, str]) -> list[str]:
    """The folders that a glob names, sorted."""
    if scheme(pattern) == "file":
        return sorted(glob.glob(local_path(pattern), recursive=True))  # noqa: PTH207 — Path.glob takes no absolute pattern
    fs, path = Place(pattern, options).filesystem()
    found = retrying(lambda: fs.glob(path))
    head = f"{scheme(pattern)}://"
    return sorted(head + str(name).rstrip("/").removeprefix(head) for name in found)


def _state(place: Place) -> RunState | RefusedError | OSError:
    try:
        return read_state(place)
    except (RefusedError, FileNotFoundError, NotADirectoryError) as error:
        return error
