"""Which series are scored: `--series anatomical` (default), `all`, or KEY=VALUE … ; who is not says why, in a closed vocabulary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from btc_ray.errors import UserError
from btc_ray.studies.evidence import REASONS, reason_against
from btc_ray.studies.facts import SeriesFacts

NOT_ASKED_FOR = "not asked for"
VOCABULARY = (*REASONS, NOT_ASKED_FOR)
"""Every reason that a series which is not selected may have; NOT_ASKED_FOR only with --series KEY=VALUE."""
FILTERS = {
    "weighting": str, "contrast_agent": bool, "plane": str, "acquisition": str, "manufacturer": str, "field_strength": float,
    "body_part": str, "te_ms": float, "tr_ms": float, "ti_ms": float, "rows": int, "columns": int, "slices": int, "derived": bool,
    "modality": str,
}  # fmt: skip
"""What --series KEY=VALUE may name, and how its value is read."""

_FALLBACK_SLICES = 5  # fewer are no volume
# Reasons that words alone can be wrong about, and one of whose volumes may be looked at by itself; what tags say, stands.
_DOUBTFUL = frozenset({"derived map", "angiography or projection"})


class SelectionError(UserError):
    """A --series that cannot be understood."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What --series asks for: `everything`, or anatomical series whose columns have the values of `filters`."""

    everything: bool = False
    filters: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Selected:
    """Whether a series is scored, else why not; `by`: tags, text (which held against it), or fallback."""

    selected: bool
    reason: str | None = None
    by: str = "tags"


def wanted(words: Sequence[str]) -> Wanted:
    """Read the words of --series. Raises SelectionError, naming the word and what may be asked for."""
    if list(words) == ["all"]:
        return Wanted(everything=True)
    if list(words) in ([], ["anatomical"]):
        return Wanted()
    filters = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in FILTERS:
            raise SelectionError(
                f"--series {word!r} is not understood: give anatomical, all, or KEY=VALUE with a KEY of {', '.join(FILTERS)}."
            )
        filters.append((name, _value(word, FILTERS[name], value.strip().lower())))
    return Wanted(filters=tuple(filters))


def _value(word: str, kind: type, text: str) -> Any:
    if kind is bool:
        if text not in ("true", "false", "yes", "no"):
            raise SelectionError(f"--series {word!r}: give true or false.")
        return text in ("true", "yes")
    try:
        return kind(text)
    except ValueError as error:
        raise SelectionError(f"--series {word!r}: give a number.") from error


def select(series: Mapping[str, SeriesFacts], wanted: Wanted) -> dict[str, Selected]:
    """What becomes of each series of one study, by its key. A study that would have nothing left gets its best volume, as `fallback`."""
    found = {key: _judge(facts, wanted) for key, facts in series.items()}
    if wanted.filters or wanted.everything:
        return found
    chosen = [key for key, one in found.items() if one.selected]
    if chosen:
        if all(series[key].derived for key in chosen):  # nothing original to look at
            return found | {key: Selected(selected=True, by="fallback") for key in chosen}
        return found
    candidates = [key for key, one in found.items() if one.reason in _DOUBTFUL and one.by == "text" and _is_volume(series[key])]
    if candidates:
        best = max(candidates, key=lambda key: (not series[key].derived, series[key].slices, key))
        found[best] = Selected(selected=True, by="fallback")
    return found


def _judge(facts: SeriesFacts, wanted: Wanted) -> Selected:
    against = reason_against(facts)
    if against is not None and not (wanted.everything and against[0] != "no pixels"):
        return Selected(selected=False, reason=against[0], by=against[1])
    if any(not _same(getattr(facts, name), value) for name, value in wanted.filters):
        return Selected(selected=False, reason=NOT_ASKED_FOR)
    return Selected(selected=True)


def _same(found: Any, value: Any) -> bool:
    if found is None:
        return value is False  # what is not said to be so, is not
    if isinstance(value, bool):
        return bool(found) is value
    if isinstance(value, float):
        return abs(float(found) - value) <= 0.01 * max(abs(value), 1.0)
    return str(found).lower() == str(value)


def _is_volume(facts: SeriesFacts) -> bool:
    return facts.slices >= _FALLBACK_SLICES and facts.orientations <= 1
