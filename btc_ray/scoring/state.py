"""`run.json` as a record: what a run is, how far it has come, and what older versions left out, in one place.

`"complete": true` is the commit mark: until it stands there, `scores/` is not to be read.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import sha256
from typing import Any, Literal

import msgspec

from btc_ray import NOT_FOR_DIAGNOSIS
from btc_ray.errors import RefusedError
from btc_ray.model.bundle import Bundle, bundle_id, columns_of
from btc_ray.model.reference import thresholds_id
from btc_ray.storage import Place
from btc_ray.storage.place import json_bytes

FILE = "run.json"


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What a run folder belongs to: a run that is continued with anything else is refused.

    Attributes:
        inputs: URIs as given, absolute, without credentials.
        decision: thresholds of the bundle, as `thresholds_id` has them; None: it decides nothing.
        bundle: everything of the bundle that a row depends on, as `bundle_id` has it; None in runs of before it was recorded.
        engine, precision: what was asked for, and once the first row was computed what computed it.
        int8_id: of the 8-bit form that rows were computed with.
        series: which series were asked for.
    """

    inputs: list[str]
    model_id: str
    preprocess_id: str
    test_time_flips: bool = False  # the defaults are what runs had before there was a choice
    decision: str | None = None
    bundle: str | None = None
    engine: str = "torch"
    precision: str = "fp32"
    int8_id: str | None = None
    series: list[str] = field(default_factory=lambda: ["anatomical"])


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What the manifest holds: `ManifestSummary` without the skipped, and when it was listed."""

    rows: int
    listed: str = ""
    size: int = 0
    unknown_sizes: int = 0
    parts: int | None = None
    problems: dict[str, Any] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    fingerprint: str = ""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Rows in all and by the values of some columns, None not counted."""

    rows: int
    status: dict[str, int]
    label: dict[str, int] = field(default_factory=dict)
    crop_status: dict[str, int] = field(default_factory=dict)
    decision: dict[str, int] = field(default_factory=dict)

    @property
    def bad_fraction(self) -> float:
        """Share of the images that are not ok, 0 to 1."""
        return 1 - self.status.get("ok", 0) / self.rows if self.rows else 0.0


@dataclass(frozen=True, kw_only=True)
class RunState:
    """What `run.json` says.

    Attributes:
        manifest: None until the inputs are listed to their end.
        generation: how often the rows that are not ok were scored again; `retrying`: how many are being so.
        attempt: which driver wrote this, counted on object stores only (see `lease`); 0: a folder with a lock.
        since_attempt: the first whose staged rows are of this generation.
        finishing: names of the files that are about to be published; None before.
        sessions: a record for each time that the command ran and computed something.
        counts: None until every row has a result.
        private: whether paths and identities stand in RUN/private only; then `inputs` are hashes.
        columns: of the probabilities, in the order of `classes`.
        studies: how many series and exams there are, how many are scored, and why the others are not; empty for pictures.
        series_rule: the rule that labels series, as the bundle had it or `btc-ray group --rule` gave it; empty: they have no label.
        skipped: by reason, what the listing met and made no row of.
        known: how many files earlier runs had scored, by which runs, and how that was known; empty without --known.
        more: what a newer version wrote and this one does not know; it is kept.
    """

    fingerprint: Fingerprint
    kind: Literal["score"] = "score"
    complete: bool = False
    notice: str = NOT_FOR_DIAGNOSIS
    settings: dict[str, Any] = field(default_factory=dict)
    model_uri: str | None = None
    classes: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    manifest: Listed | None = None
    generation: int = 0
    attempt: int = 0
    since_attempt: int = 0
    retrying: int | None = None
    finishing: list[str] | None = None
    sessions: list[dict[str, Any]] = field(default_factory=list)
    counts: Counts | None = None
    skipped: dict[str, Any] = field(default_factory=dict)
    known: dict[str, Any] = field(default_factory=dict)
    private: bool = False
    studies: dict[str, Any] = field(default_factory=dict)
    series_rule: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    finished: str | None = None
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def probability_columns(self) -> tuple[str, ...]:
        """The column of scores for each class."""
        return columns_of(self.classes, self.columns)

    @property
    def run_id(self) -> str:
        """16 hex digits that tell this run from others: by its inputs, what was listed and when, the model and its preprocessing."""
        made, listed = self.fingerprint, self.manifest
        what = [
            made.inputs,
            made.model_id,
            made.preprocess_id,
            *([listed.fingerprint, listed.listed, listed.rows] if listed else []),
        ]
        return sha256(repr(what).encode("utf-8", "surrogateescape")).hexdigest()[:16]

    @property
    def bad_fraction(self) -> float:
        """Share of the images that are not ok, 0 to 1; those that earlier runs scored are."""
        if self.counts is None:
            return 0.0
        of_all = self.counts.rows + self.known.get("files", 0)
        return self.counts.bad_fraction * self.counts.rows / of_all if of_all else 0.0

    def changed(self, **values: Any) -> "RunState":
        """The state with other values of its attributes."""
        return replace(self, **values)

    def to_dict(self) -> dict[str, Any]:
        """As `run.json` holds it."""
        record = asdict(self)
        return record.pop("more") | {name: value for name, value in record.items() if name != "retrying" or value is not None}

    def encoded(self) -> bytes:
        """The bytes of `run.json`, without credentials."""
        return json_bytes(self.to_dict(), indent=2, ascii_only=True)

    def write(self, folder: Place) -> "RunState":
        """Replace `run.json` in one step; returns the state. A driver writes through `RunFolder.write_state`, which is fenced."""
        (folder / FILE).write(self.encoded())
        return self


def read_state(folder: Place) -> RunState:
    """What `run.json` says. Raises RefusedError where it is damaged or not that of a scoring run, FileNotFoundError without one."""
    file = folder / FILE
    try:
        content = msgspec.json.decode(file.read())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedError(f"{file} is damaged ({error}). Use another --output.") from error
    if not isinstance(content, dict) or content.get("kind") != "score":
        raise RefusedError(f"{folder} is not the run folder of a scoring job. Use another --output.")
    known = {item.name for item in fields(RunState)} - {"more"}
    values = {name: value for name, value in content.items() if name in known}
    try:
        state = msgspec.convert(values, RunState)
    except msgspec.ValidationError as error:
        raise RefusedError(f"{file} is damaged: {error}. Use another --output.") from error
    return state.changed(more={name: value for name, value in content.items() if name not in known})


def fingerprint_of(
    inputs: list[str], bundle: Bundle, *, engine: str, precision: str, series: Sequence[str] = ("anatomical",)
) -> Fingerprint:
    """The fingerprint of a run of `inputs` with `bundle`, before a row is computed."""
    return Fingerprint(
        inputs=inputs,
        model_id=bundle.model_id,
        preprocess_id=bundle.preprocess_id,
        test_time_flips=bundle.test_time_flips,
        decision=thresholds_id(bundle.decision),
        bundle=bundle_id(bundle),
        engine=engine,
        precision=precision,
        series=list(series),
    )


def difference(begun: Fingerprint, now: Fingerprint, *, int8_id: str | None) -> str | None:
    """In which way a run that was begun with one thing is not that of another, in words; None where it is. `int8_id`: the bundle's."""
    words = {
        "inputs": "other inputs",
        "series": "other series",
        "model_id": "another model",
        "preprocess_id": "another preprocessing",
        "precision": "another precision",
        "engine": "another engine",
        "test_time_flips": "the same model with other test-time flips",
        "decision": "the same model with other thresholds",
        "int8_id": "the same model with other int8 weights",
        "bundle": "the same weights in another bundle (classes, temperature, mean or std)",
    }
    for name, what in words.items():
        there, here = getattr(begun, name), int8_id if name == "int8_id" else getattr(now, name)
        if name in ("engine", "precision") and "auto" in (there, here):
            continue  # auto goes on with what the run was begun with
        if name == "int8_id" and begun.precision != "int8":
            continue  # not a row was computed with it
        if name == "bundle" and there is None:
            continue
        if there != here:
            return f"{what}: {name} is {_short(there)} there and {_short(here)} now"
    return None


def _short(value: Any) -> str:
    return ", ".join(value[:3]) + (", …" if len(value) > 3 else "") if isinstance(value, list) else str(value)


def hashed(inputs: Sequence[str]) -> list[str]:
    """Inputs as a private run holds them: the same for the same inputs, and no path."""
    return [f"sha256:{sha256(uri.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}" for uri in inputs]


def without_paths(state: RunState) -> RunState:
    """The state of a private run: inputs are hashes, and reasons have counts without examples."""

    def counted(reasons: dict[str, Any]) -> dict[str, Any]:
        return {reason: {**found, "examples": []} for reason, found in reasons.items()}

    settings = {**state.settings, "input": hashed(state.fingerprint.inputs)}
    if settings.get("pseudonym_key"):
        settings["pseudonym_key"] = "…"
    listed = None if state.manifest is None else replace(state.manifest, problems=counted(state.manifest.problems))
    fingerprint = replace(state.fingerprint, inputs=hashed(state.fingerprint.inputs))
    return state.changed(settings=settings, fingerprint=fingerprint, manifest=listed, skipped=counted(state.skipped))
