"""`btc-ray info --compare RUN1 RUN2`: the two run folders opened, their differences printed; neither torch nor Ray is loaded."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.dataset as pads

from btc_ray import NOT_FOR_DIAGNOSIS, settings
from btc_ray.reports.comparison.comparison import CompareError, Comparison, CrossTable, changes, compare_runs
from btc_ray.scoring.state import RunState, read_state
from btc_ray.storage import Place

ORDINALS = ("first", "second")


def print_comparison(chosen: settings.Info) -> int:
    """Print what changed between the two runs of `chosen.compare`. Raises CompareError where one is no complete run."""
    assert chosen.compare is not None
    places = [Place(uri, chosen.storage()) for uri in chosen.compare]
    runs = [_read_run(place) for place in places]
    try:
        found = compare_runs(*map(_scores, places))
    except pa.ArrowInvalid as error:
        raise CompareError(f"the scores of {' or '.join(map(str, places))} are damaged: {error}") from error
    facts = [_facts(place, run) for place, run in zip(places, runs, strict=True)]
    if chosen.json:
        record = {"kind": "comparison", "notice": NOT_FOR_DIAGNOSIS, **dict(zip(ORDINALS, facts, strict=True)), **asdict(found)}
        print(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print("\n".join(_page(facts, found)))
    return 0


def _read_run(place: Place) -> RunState:
    """`run.json` of a complete run."""
    if not (place / "run.json").exists():
        raise CompareError(f"{place} is not a run folder (no run.json): --compare takes two folders made by `btc-ray score`.")
    run = read_state(place)
    if not run.complete:
        raise CompareError(f"{place} is not complete: run the command it was begun with again, then compare.")
    return run


def _scores(place: Place) -> pads.Dataset:
    parts = (place / "scores").files(".parquet")
    if not parts:
        raise CompareError(f"{place} has no scores to compare.")
    opened = [part.arrow() for part in parts]
    return pads.dataset([path for _, path in opened], filesystem=opened[0][0], format="parquet")


def _facts(place: Place, run: RunState) -> dict[str, Any]:
    """What computed a run."""
    names = ("model_id", "preprocess_id", "engine", "precision", "test_time_flips")
    return {"run": str(place), **{name: getattr(run.fingerprint, name) for name in names}, "finished": run.finished}


# --- the text ------------------------------------------------------------------------------------------------------------------------


def _page(facts: Sequence[Mapping[str, Any]], found: Comparison) -> list[str]:
    by = "uri" if found.matched_by == "uri" else "content_sha256, as the runs share no uri: the images were moved or renamed"
    named = [["", *ORDINALS]] + [[name, *(_word(run[name]) for run in facts)] for name in facts[0]]
    counts = [
        ["rows in both", found.in_both],
        ["only in the first", found.only_in_first],
        ["only in the second", found.only_in_second],
    ]
    lines = [*aligned(named, right=False), "", f"Rows, matched by {by}", *aligned(counts)]
    lines += ["", _changed("Status", found.status), *_arrows(found.status)]
    if found.decision is not None:
        lines += ["", _changed("Decision", found.decision), *_arrows(found.decision)]
    lines += ["", f"{_changed('Label', found.label)}: first run down, second run across, rows that are ok in both"]
    lines += aligned([["", *found.label], *([was, *line.values()] for was, line in found.label.items())])
    differences = [[name, _number(apart.mean), _number(apart.largest)] for name, apart in found.differences.items()]
    lines += ["", "Absolute differences, rows that are ok in both", *aligned([["", "mean", "largest"], *differences])]
    if found.one_sided:
        lines += ["", f"Not compared, columns of one run only: {', '.join(found.one_sided)}"]
    if found.surest:
        lines += ["", "Changed labels, the surest first"]
        lines += aligned(
            [
                [" → ".join(row.label), " → ".join(f"{sure:.4f}" for sure in row.confidence), " → ".join(dict.fromkeys(row.uri))]
                for row in found.surest
            ],
            right=False,
        )
        lines += ["", f"Changed labels by folder, {len(found.folders):,} of {found.folders_changed:,} folders"]
        lines += [f"  {rows:>9,}  {folder}" for folder, rows in found.folders.items()]
    return lines


def _changed(what: str, table: CrossTable) -> str:
    rows, changed = sum(sum(line.values()) for line in table.values()), sum(rows for _, _, rows in changes(table))
    return f"{what}: {changed:,} of {rows:,} changed"


def _arrows(table: CrossTable) -> list[str]:
    return aligned([[f"{was} → {now}", rows] for was, now, rows in changes(table)])


def aligned(rows: Sequence[Sequence[Any]], *, right: bool = True) -> list[str]:
    """Columns of equal width; the first to the left, the others to the right, or all to the left."""
    texts = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if right and place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in texts
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.6f}"


def _word(value: Any) -> str:
    return {True: "yes", False: "no", None: "unknown"}.get(value, str(value))
