"""`btc-ray evaluate --run`: what readers' answers say of how good a model is on the archive that it has scored."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from btc_ray import NOT_FOR_DIAGNOSIS, settings
from btc_ray.dataset.answers import NO_CLASS, NOT_A_HEAD, Answer, Settled, counted, read_answers, say_contradictions, settle
from btc_ray.errors import COMPLETE, UserError
from btc_ray.progress import say
from btc_ray.scoring.folder import ANSWERS, REVIEW
from btc_ray.scoring.state import RunState, read_state
from btc_ray.storage import Place

_, RECORD, TABLE = REVIEW
OTHER_RUN = "answers about another run"
NOT_SHOWN = "answers about images that the review does not show, or whose bytes were others"


class EvaluateRunError(UserError):
    """A run, a review and answers that do not fit together."""


def evaluate_run(chosen: settings.Evaluate, run: str) -> int:
    """Write answers.json and print what it says. Raises EvaluateRunError and AnswersError."""
    from btc_ray.reports.evaluation.archive import DEFINITIONS, NO_HEAD, NOT_SURE, of_sample, read_whole, weighted

    place = Place(run, chosen.storage())
    review = place.at(chosen.review or run)
    table, record, state = _reviewed(place, review)
    classes = record["model"]["classes"]
    row_of = {
        key: number
        for number, key in enumerate(zip(table["row_id"].to_pylist(), table["content_sha256"].to_pylist(), strict=True))
    }
    settled, left_out = _settled(chosen, place, state, row_of, classes)
    numbers = {name: number for number, name in enumerate(classes)} | {NOT_A_HEAD: NO_HEAD}
    answered = np.full(len(table), NOT_SURE)
    has_answer = np.zeros(len(table), bool)
    for answer in settled.answers:
        row = row_of[_key(answer)]
        answered[row], has_answer[row] = numbers.get(answer.answer, NOT_SURE), True
    predicted = np.array([classes.index(label) for label in table["label"].to_pylist()], np.int64)
    drawn = np.array(table["drawn"].is_valid())
    sample, population = record["sample"], record["scored"]
    certain = read_whole(
        table["place"].to_numpy(zero_copy_only=False).astype(float),
        np.array(table["tier"].to_pylist(), object),
        has_answer,
        drawn,
    )
    found: dict[str, Any] = {"sample": None, "weighted": None}
    remarks = []
    if sample is not None:
        rows = drawn & has_answer
        found["sample"] = of_sample(predicted[rows], answered[rows], classes) | {"drawn": sample["rows"]}
        remarks += _of_gaps(np.asarray(table["drawn"].fill_null(-1)), has_answer)
        if certain.any():
            # Where a sampled row has no answer, those that have one stand for it too.
            rows = certain | (drawn & has_answer)
            found["weighted"] = weighted(predicted[rows], answered[rows], certain[rows], population, classes)
    else:
        remarks.append(
            "The review has no random sample, so nothing unbiased can be said of the archive: `btc-ray review --run RUN --sample 200` "
            "draws one."
        )
    read = of_sample(predicted[has_answer], answered[has_answer], classes)
    result = {
        "kind": "answers",
        "notice": NOT_FOR_DIAGNOSIS,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": str(place),
        "run_id": state.run_id,
        "model_id": state.fingerprint.model_id,
        "scored": population,
        "shown": len(table),
        "answers": counted(settled.answers),
        "left_out": left_out,
        "drawn": sample,
        **found,
        "read": {
            name: read[name] for name in ("images", "heads", "right", "confusion")
        },  # an interval would be one of an estimate
        "remarks": remarks,
        "definitions": DEFINITIONS,
    }
    output = place.at(chosen.output or run)
    (output / ANSWERS).write_json(result)
    _print(result, output / ANSWERS)
    return COMPLETE


def _reviewed(run: Place, review: Place) -> tuple[pa.Table, dict[str, Any], RunState]:
    """The rows that the review shows, its record, and the run's state. Raises EvaluateRunError where there is none, or not of this run."""
    if not (run / "run.json").exists():
        raise EvaluateRunError(f"{run} is not a run folder (no run.json). Give --run the --output of `btc-ray score`.")
    state = read_state(run)
    if not (review / TABLE).exists() or not (review / RECORD).exists():
        raise EvaluateRunError(
            f"{review} has no review: run `btc-ray review --run {run} --sample 200`, or give --review its --output."
        )
    record, table = json.loads((review / RECORD).read()), (review / TABLE).read_table()
    if record.get("run_id") != state.run_id or "drawn" not in table.column_names:
        raise EvaluateRunError(
            f"the review in {review} is of another run, or of an older version: run `btc-ray review --run {run}` again."
        )
    return table, record, state


def _settled(
    chosen: settings.Evaluate, run: Place, state: RunState, row_of: Mapping[tuple[int | None, str], int], classes: Sequence[str]
) -> tuple[Settled, dict[str, int]]:
    """The answers about rows of the review, and why others do not count. Raises EvaluateRunError where none is left or one names a class
    that the model does not know, and AnswersError."""
    answers = read_answers([run.at(uri) for uri in chosen.answers])
    own = [answer for answer in answers if answer.run in ("", state.run_id)]
    shown = [answer for answer in own if _key(answer) in row_of]
    left_out = Counter({OTHER_RUN: len(answers) - len(own), NOT_SHOWN: len(own) - len(shown)})
    settled = settle(shown, about=_key)
    say_contradictions(settled)
    left_out["images that readers contradict each other about"] = len(settled.contradictions)
    reasons = {reason: count for reason, count in left_out.items() if count}
    for reason, count in reasons.items():
        say(f"left out: {count:,} {reason}")
    if not settled.answers:
        raise EvaluateRunError(
            f"--answers {' '.join(chosen.answers)}: no answer is about an image that the review of {run} shows."
        )
    if odd := sorted({answer.answer for answer in settled.answers} - {*classes, *NO_CLASS}):
        raise EvaluateRunError(f"--answers names {', '.join(odd[:5])}, which is no class of the model ({', '.join(classes)}).")
    return settled, reasons


def _key(answer: Answer) -> tuple[int | None, str]:
    return answer.row_id, answer.content_sha256


def _of_gaps(drawn: np.ndarray, has_answer: np.ndarray) -> list[str]:
    """What is to be said of a sample that was not read to its end; nothing where it was. `drawn` int (N,): places in it, -1 outside."""
    places = np.sort(drawn[(drawn >= 0) & has_answer])
    size = int((drawn >= 0).sum())
    if len(places) == size:
        return []
    if not len(places):
        return [f"None of the {size:,} drawn images has an answer, so nothing unbiased can be said of the archive."]
    if places[-1] == len(places) - 1:
        return [f"The first {len(places):,} of the {size:,} drawn images have an answer; they are a random sample of their own."]
    return [
        f"{size - len(places):,} of the {size:,} drawn images have no answer, and not the last ones: if those are harder than others, the "
        "figures are too good."
    ]


def _print(result: Mapping[str, Any], file: Place) -> None:
    """The figures in words, on stdout."""
    for name, title in (("sample", "random sample"), ("weighted", "worklist and sample")):
        one = result[name]
        if one is None:
            continue
        of = f"estimate for all {result['scored']:,} scored images from {one['images']:,} answers"
        print(f"{title:<20} accuracy {_words(one['accuracy'])}   {of}")
        for row in one["by_class"]:
            print(f"  {row['class']:<18} sensitivity {_words(row['sensitivity'])}   precision {_words(row['precision'])}")
    if (sample := result["sample"]) is not None:
        print(f"  {'not a head':<18} {_words(sample['not_a_head'])}   unsure {_words(sample['unsure'])}")
    read = result["read"]
    print(f"{'all that was read':<20} {read['right']:,} right of {read['heads']:,}, as they are and for nothing else")
    for remark in result["remarks"]:
        print(remark)
    print(f"{'numbers':<20} {file}")


def _words(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return "–"
    interval = "" if figure["low"] is None else f" ({figure['low']:.3f} to {figure['high']:.3f})"
    return f"{figure['value']:.3f}{interval}"
