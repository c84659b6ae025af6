"""What runs that differ in their seed alone say of recipes: means with intervals, which recipe is best, which cannot be told from it.

Finished tables in, plain records out. A run's figures are those of its epoch of least validation loss; test figures never choose.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import stats

from btc_ray.reports.shared.bootstrap import grouped_mean

LEVEL = 0.05
FIGURES = ("validation_loss", "validation_accuracy", "test_loss", "test_accuracy")
_NEEDED = ("experiment", "experiment_id", "seed", "epoch", "split", "loss", "accuracy")


def runs(history: pa.Table) -> pd.DataFrame:
    """One row per experiment and seed, at the epoch of least validation loss (the first of them): `experiment`, `experiment_id`,
    `seed`, `epoch` and FIGURES. A run whose validation loss was never a number has NaN in all of them, and epoch 0.

    Args:
        history: a row per experiment, seed, epoch and split (`validation`, `test` and others): `loss`, `accuracy`.

    Raises:
        ValueError: where a column is missing.
    """
    if missing := [name for name in _NEEDED if name not in history.column_names]:
        raise ValueError(f"this is not a table of experiments: the column {missing[0]!r} is missing.")
    table = history.select(list(_NEEDED)).to_pandas()
    wide = table.pivot(index=["experiment", "experiment_id", "seed", "epoch"], columns="split", values=["loss", "accuracy"])
    wide.columns = [f"{split}_{figure}" for figure, split in wide.columns]
    wide = wide.reset_index()[["experiment", "experiment_id", "seed", "epoch", *FIGURES]]
    finite = np.isfinite(wide["validation_loss"])
    best = wide[finite].sort_values(["validation_loss", "epoch"]).groupby(["experiment", "seed"], as_index=False).first()
    diverged = wide[["experiment", "experiment_id", "seed"]].drop_duplicates().merge(best, how="left")
    diverged["epoch"] = diverged["epoch"].fillna(0).astype(int)
    return diverged.sort_values(["experiment", "seed"], ignore_index=True)


def mean_interval(values: Sequence[float] | np.ndarray) -> dict[str, float | None]:
    """`mean`, `low`, `high` (95 %, Student's t over the values) and `deviation`; None where one value or none is too few, or one is
    no number."""
    values = np.asarray(values, float)
    if not len(values) or not np.isfinite(values).all():
        return {"mean": None, "low": None, "high": None, "deviation": None}
    mean = float(values.mean())
    if len(values) < 2:
        return {"mean": mean, "low": None, "high": None, "deviation": None}
    deviation = float(values.std(ddof=1))
    reach = float(stats.t.ppf(1 - LEVEL / 2, len(values) - 1)) * deviation / math.sqrt(len(values))
    return {"mean": mean, "low": mean - reach, "high": mean + reach, "deviation": deviation}


def rank(found: pd.DataFrame) -> list[dict[str, Any]]:
    """Experiments by mean validation loss, each with its figures and its difference to the best, paired over seeds.

    Args:
        found: as `runs` gives it.

    Returns one record per experiment: `rank` (from 1), `experiment`, `experiment_id`, `seeds`, `diverged` (runs without a figure),
    `epoch` (the mean of the chosen), each of FIGURES as `mean_interval`, and `difference`, that of validation losses less the best's:
    `mean_interval`, `p` (paired t-test), `p_holm` (Holm 1979, over all comparisons with the best) and `told_apart`; None for the best,
    where there is one seed, and where a run diverged. An experiment with a diverged run comes after all that have none.
    """
    records = []
    for (name, identity), rows in found.groupby(["experiment", "experiment_id"], sort=False):
        rows = rows.sort_values("seed")
        diverged = int((~np.isfinite(rows["validation_loss"])).sum())
        records.append(
            {
                "experiment": name,
                "experiment_id": identity,
                "seeds": len(rows),
                "diverged": diverged,
                "epoch": float(rows["epoch"].mean()) if not diverged else None,
                **{figure: mean_interval(rows[figure].to_numpy()) for figure in FIGURES},
                "difference": None,
                "_losses": rows["validation_loss"].to_numpy(),
            }
        )
    records.sort(
        key=lambda one: (one["diverged"], math.inf if one["diverged"] else one["validation_loss"]["mean"], one["experiment"])
    )
    compared = [one for one in records[1:] if not one["diverged"] and one["seeds"] > 1]
    for one in compared:
        apart = one["_losses"] - records[0]["_losses"]
        one["difference"] = mean_interval(apart) | {"p": _paired_p(apart)}
    adjusted = holm([one["difference"]["p"] for one in compared])
    for one, p in zip(compared, adjusted, strict=True):
        one["difference"] |= {"p_holm": p, "told_apart": p < LEVEL}
    return [{"rank": number, **{key: one[key] for key in one if key != "_losses"}} for number, one in enumerate(records, start=1)]


def by_patient(ranked: Sequence[Mapping[str, Any]], right: Mapping[str, np.ndarray], groups: np.ndarray) -> list[dict[str, Any]]:
    """The records with what other patients would add: `test_by_group`, the test accuracy (mean over seeds) with its 95 % interval
    resampled by group, and `test_difference`, that accuracy less the best's on the same images, resampled likewise, None for the best.
    Both are None for an experiment with a diverged run.

    Args:
        ranked: as `rank` gives it.
        right: experiment → float64 (T,), the share of seeds in which each test image was answered rightly.
        groups: int64 (T,), the patient, or the copies, of each.
    """
    best = right.get(ranked[0]["experiment"])
    records = []
    for number, one in enumerate(ranked):
        own = right.get(one["experiment"])
        records.append(
            dict(one)
            | {
                "test_by_group": None if own is None else grouped_mean(own, groups),
                "test_difference": None if number == 0 or own is None or best is None else grouped_mean(own - best, groups),
            }
        )
    return records


def holm(values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of p-values for as many comparisons, in their order (Scandinavian Journal of Statistics, 1979)."""
    order = np.argsort(values, kind="stable")
    adjusted, highest = [0.0] * len(order), 0.0
    for place, position in enumerate(order.tolist()):
        highest = max(highest, min(1.0, (len(order) - place) * float(values[position])))
        adjusted[position] = highest
    return adjusted


def needed_difference(found: pd.DataFrame, *, images: int, accuracy: float) -> dict[str, Any]:
    """How far two test accuracies have to lie apart before single runs say anything, with this many test images.

    Args:
        found: as `runs` gives it; the spread over seeds is pooled over its experiments, those with a diverged run left out.
        images: in the test set.
        accuracy: near which the two lie.

    Returns `images`, `accuracy` and, as differences of accuracy:
        seed_deviation: of single runs of one recipe, pooled; None without two seeds.
        seeds_alone: what two runs of one recipe differ by in 95 of 100 pairs, by their seeds alone, on the same images.
        same_images: the least that McNemar's exact test can tell apart at 5 % for two models on the same images: all images on
            which one alone is right speak for the same one.
        published: what two accuracies need of which nothing else is known, each of one run and each subject to its seed and to
            the chance of its images: 1.96 √(2 (s² + a (1 − a) / n)).
        claim: 0.9925 against 0.9931, the published report's two best, in `claim_images`: so many images of these.
    """
    complete = found.groupby("experiment").filter(lambda rows: np.isfinite(rows["test_accuracy"]).all())
    per = complete.groupby("experiment")["test_accuracy"].agg(["var", "count"]).query("count > 1")
    freedom = int((per["count"] - 1).sum())
    deviation = math.sqrt(float((per["var"] * (per["count"] - 1)).sum()) / freedom) if freedom else None
    reach = None if deviation is None else float(stats.t.ppf(1 - LEVEL / 2, freedom)) * math.sqrt(2) * deviation
    discordant = next(count for count in range(1, 64) if stats.binomtest(0, count).pvalue < LEVEL)  # 6
    sampling = accuracy * (1 - accuracy) / images
    return {
        "images": images,
        "accuracy": accuracy,
        "seed_deviation": deviation,
        "seeds_alone": reach,
        "discordant": discordant,
        "same_images": discordant / images,
        "published": float(stats.norm.ppf(1 - LEVEL / 2)) * math.sqrt(2 * ((deviation or 0.0) ** 2 + sampling)),
        "claim": 0.9931 - 0.9925,
        "claim_images": (0.9931 - 0.9925) * images,
    }


def _paired_p(apart: np.ndarray) -> float:
    """Two-sided p of Student's test that the mean difference is 0; differences without any spread are certain."""
    error = apart.std(ddof=1) / math.sqrt(len(apart))
    if error == 0:
        return 1.0 if apart.mean() == 0 else 0.0
    return float(2 * stats.t.sf(abs(apart.mean()) / error, len(apart) - 1))


def conclude_ranking(ranked: Sequence[Mapping[str, Any]], needed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The result in plain words: `headline`, `paragraphs`, and `tied`, the names of those that cannot be told from the best.

    Args:
        ranked: as `rank` gives it.
        needed: `needed_difference` near the best's own test accuracy and near the report's.
    """
    best = ranked[0]
    if best["diverged"]:
        return {
            "headline": "No experiment has a figure for every seed",
            "paragraphs": ["In each of them the loss of one run or more was never a number. Try lower learning rates."],
            "tied": [],
        }
    paragraphs = [
        f"Mean over {_seeds(best['seeds'])}: validation loss {_figure(best['validation_loss'])}, validation accuracy "
        f"{_figure(best['validation_accuracy'])}. It was chosen by validation loss alone. On the test images, which chose "
        f"nothing: accuracy {_figure(best['test_accuracy'])}, loss {_figure(best['test_loss'])}."
    ]
    tied: list[str] = []
    if best["seeds"] < 2:
        paragraphs.append(
            "One seed has no spread: whether the others are any worse cannot be said. Give --seeds 2 or more, better 5."
        )
    else:
        compared = [one for one in ranked[1:] if one["difference"] is not None]
        tied = [one["experiment"] for one in compared if not one["difference"]["told_apart"]]
        if compared:
            paragraphs.append(_told(len(compared), tied, best["seeds"]))
    if diverged := [one["experiment"] for one in ranked if one["diverged"]]:
        paragraphs.append(f"Without a figure in one run or more, and so out of the comparison: {'; '.join(diverged)}.")
    if best.get("test_by_group"):
        paragraphs.append(_patients(ranked))
    paragraphs += _single_runs(*needed)
    return {"headline": f"Best by validation loss: {best['experiment']}", "paragraphs": paragraphs, "tied": tied}


def _told(compared: int, tied: Sequence[str], seeds: int) -> str:
    how = (
        f"(paired over {seeds} seeds, 5 % over all {compared} comparisons, Holm)"
        if compared > 1
        else f"(paired over {seeds} seeds, 5 %)"
    )
    if not tied:
        return (
            f"The {compared} others have a higher validation loss than it beyond what seeds do {how}."
            if compared > 1
            else (f"The other has a higher validation loss than it beyond what seeds do {how}.")
        )
    names = "; ".join(tied[:5]) + (f"; and {len(tied) - 5} more, which the table marks" if len(tied) > 5 else "")
    rest = compared - len(tied)
    return f"{len(tied)} of the {compared} others cannot be told from it {how}: {names}. " + (
        f"The other {rest} have a higher validation loss beyond what seeds do."
        if rest > 1
        else "The other one has a higher validation loss beyond what seeds do."
        if rest
        else "So the choice among them is free, as far as this grid can say."
    )


def _patients(ranked: Sequence[Mapping[str, Any]]) -> str:
    """What the test images say where patients, not seeds, are drawn anew."""
    best, compared = (
        ranked[0]["test_by_group"],
        [one["test_difference"] for one in ranked[1:] if one["test_difference"] is not None],
    )
    apart = sum(one["low"] is not None and (one["low"] > 0 or one["high"] < 0) for one in compared)
    text = f"Other patients: test accuracy {best['value']:.4f}"
    if best["low"] is not None:
        text += f" ({best['low']:.4f} to {best['high']:.4f}), resampled by patient, by copies where none is known"
    if not compared:
        return f"{text}."
    return (
        f"{text}. On the same test images {apart:,} of the {len(compared):,} others differ from it by more than patients do by chance "
        "(95 % each, not adjusted for how many they are)."
    )


def _single_runs(own: Mapping[str, Any], claim: Mapping[str, Any]) -> list[str]:
    """What a difference of single runs would have to be, and what 0.9925 against 0.9931 comes to."""
    images, sentences = own["images"], []
    if own["seeds_alone"] is not None:
        sentences.append(
            f"Single runs, and their seeds: two runs of one recipe that differ in nothing but the seed lie up to "
            f"{own['seeds_alone']:.4f} of test accuracy apart in 95 of 100 pairs (deviation {own['seed_deviation']:.4f})."
        )
    sentences.append(
        f"Single runs, and {images:,} test images: two models measured on the same of them can be told apart from a difference of "
        f"{own['same_images']:.4f} on, {own['discordant']} images that all speak for the same one (McNemar's exact test). Two published "
        f"accuracies of which nothing else is known need about {own['published']:.4f} near {own['accuracy']:.4f}, and "
        f"{claim['published']:.4f} near {claim['accuracy']:.4f}. The published report's 0.9925 and 0.9931, of one run each, differ by "
        f"{claim['claim']:.4f}: {claim['claim_images']:.1f} images of {images:,}. "
        + ("That says nothing." if claim["claim"] < claim["same_images"] else "On so many images it can say something.")
    )
    return sentences


def _figure(found: Mapping[str, Any]) -> str:
    """`0.2931 (0.2920 to 0.2942)`."""
    if found["mean"] is None:
        return "–"
    return f"{found['mean']:.4f}" + ("" if found["low"] is None else f" ({found['low']:.4f} to {found['high']:.4f})")


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"
