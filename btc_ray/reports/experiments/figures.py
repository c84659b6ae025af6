"""The published report's figures redone for a grid of experiments, over seeds instead of one run each. Tables in, PNG bytes out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from btc_ray.reports.shared.figures import LINES, plain, png

SMOOTHING = 0.6  # TensorBoard's own default
IN_COLOUR = 6  # experiments that the comparison names; as many as there are colours that are told apart
SHOWN = 40  # experiments in the chart of intervals
_SPLITS = (("train", LINES[0], "o"), ("validation", LINES[1], "s"), ("test", LINES[2], "D"))
_GRID = {"color": "#d5dde2", "linewidth": 0.6}
_GREY = "#b9c4cb"


def class_counts(counts: Mapping[str, Mapping[str, int]], classes: Sequence[str]) -> bytes:
    """Images of each class in all splits together.

    Args:
        counts: for each split its images of each class, as `split_per_class` takes them.
    """
    from matplotlib.figure import Figure

    totals = [sum(counts[split][name] for split, _, _ in _SPLITS) for name in classes]
    figure = Figure(figsize=(max(4.5, 1.15 * len(classes) + 1.2), 3.4), dpi=150, layout="constrained")
    axes = figure.subplots()
    bars = axes.bar([plain(name) for name in classes], totals, color=LINES[0], width=0.62)
    axes.bar_label(bars, [f"{total:,}" for total in totals], padding=2, fontsize=9)
    axes.set(title=f"{sum(totals):,} images by class", ylabel="images")
    _upright(axes, max(totals, default=1))
    return png(figure)


def split_per_class(counts: Mapping[str, Mapping[str, int]], classes: Sequence[str]) -> bytes:
    """Images of each class in each split, side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(5.5, 1.75 * len(classes) + 1.2), 3.4), dpi=150, layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(classes))
    for number, (split, colour, _) in enumerate(_SPLITS):
        values = [counts[split][name] for name in classes]
        bars = axes.bar(places + 0.28 * (number - 1), values, width=0.26, color=colour, label=f"{split} ({sum(values):,})")
        axes.bar_label(bars, [f"{value:,}" for value in values], padding=2, fontsize=8)
    axes.set_xticks(places, [plain(name) for name in classes])
    axes.set(title="images by class and split", ylabel="images")
    _upright(axes, max((count for split in counts.values() for count in split.values()), default=1))
    axes.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.1), fontsize=9)
    return png(figure)


def one_experiment(history: pd.DataFrame, name: str, *, chosen: Mapping[int, int]) -> bytes:
    """Loss and accuracy per epoch of one experiment: the mean over seeds as a line, the seeds themselves faint behind it.

    Args:
        history: `experiment`, `seed`, `epoch`, `split`, `loss`, `accuracy`.
        chosen: for each seed the epoch whose figures count, marked by a ring on its validation line.
    """
    from matplotlib.figure import Figure

    rows = history[history["experiment"] == name]
    figure = Figure(figsize=(9.6, 4.0), dpi=150, layout="constrained")
    figure.suptitle(plain(name), fontsize=11)
    for axes, value in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for split, colour, marker in _SPLITS:
            wide = rows[rows["split"] == split].pivot(index="epoch", columns="seed", values=value)
            if wide.shape[1] > 1:
                axes.plot(wide.index, wide.to_numpy(), color=colour, linewidth=0.7, alpha=0.35)
            axes.plot(wide.index, wide.mean(axis=1), color=colour, linewidth=1.7, marker=marker, markersize=3, label=split)
            if split == "validation":
                for seed, epoch in chosen.items():
                    axes.plot(epoch, wide.loc[epoch, seed], "o", markersize=8, markerfacecolor="none", color="#16212b", zorder=5)
        axes.set(title=value, xlabel="epoch")
        _plot(axes)
    axes.plot([], [], "o", markersize=8, markerfacecolor="none", color="#16212b", label="epoch that counts")
    axes.legend(frameon=False, fontsize=9)
    return png(figure)


def comparison(history: pd.DataFrame, ranked: Sequence[str]) -> bytes:
    """Validation loss and accuracy of all experiments, means over seeds, smoothed as TensorBoard does it (`smoothed`, SMOOTHING).

    Args:
        ranked: the experiments' names, the best first: the first IN_COLOUR are named, the others grey.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    rows = history[history["split"] == "validation"]
    figure = Figure(figsize=(9.6, 5.0), dpi=150, layout="constrained")
    means = rows.groupby(["experiment", "epoch"])[["loss", "accuracy"]].mean()
    for axes, value in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for place, name in reversed(list(enumerate(ranked))):
            line = means.loc[name][value]
            named = place < IN_COLOUR
            axes.plot(
                line.index,
                smoothed(line.to_numpy()),
                color=LINES[place % len(LINES)] if named else _GREY,
                linewidth=1.7 if named else 0.8,
                linestyle=("-", "--", "-.")[place % 3] if named else "-",
                label=plain(name) if named else None,
                zorder=3 if named else 2,
            )
        axes.set(title=f"validation {value}", xlabel="epoch")
        _plot(axes)
        if value == "loss":
            finite = means["loss"][np.isfinite(means["loss"]) & (means["loss"] > 0)]
            if len(finite) and finite.max() > 4 * finite.min():
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter(ScalarFormatter())
                axes.yaxis.set_minor_formatter(ScalarFormatter() if finite.max() < 20 * finite.min() else NullFormatter())
                axes.tick_params(axis="y", which="both", labelsize=9)
    handles, labels = axes.get_legend_handles_labels()
    handles, labels = handles[::-1], labels[::-1]
    if len(ranked) > IN_COLOUR:
        from matplotlib.lines import Line2D

        handles.append(Line2D([], [], color=_GREY, linewidth=0.8))
        labels.append(f"the {len(ranked) - IN_COLOUR:,} others")
    figure.legend(
        handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=8,
        title=f"means over seeds, exponential moving average with smoothing {SMOOTHING:g}", title_fontsize=8,
    )  # fmt: skip
    return png(figure)


def intervals(ranked: Sequence[Mapping[str, Any]]) -> bytes:
    """Validation loss and test accuracy of the experiments, the best above: mean and 95 % interval over seeds.

    Args:
        ranked: as `seeds.rank` gives it; the first SHOWN are drawn, without those that diverged.
    """
    from matplotlib.figure import Figure

    shown = [one for one in ranked if not one["diverged"]][:SHOWN]
    figure = Figure(figsize=(9.6, 1.3 + 0.24 * max(len(shown), 3)), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, name, title in ((left, "validation_loss", "validation loss"), (right, "test_accuracy", "test accuracy")):
        for place, one in enumerate(shown):
            found = one[name]
            like_best = not place or (one["difference"] is not None and not one["difference"]["told_apart"])
            colour = LINES[1] if like_best else LINES[0]
            if found["low"] is not None:
                axes.plot([found["low"], found["high"]], [place, place], color=colour, linewidth=1.4)
            axes.plot(found["mean"], place, "D" if like_best else "o", color=colour, markersize=4)
        axes.set_title(title, fontsize=10)
        axes.grid(axis="x", **_GRID)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
    left.set_yticks(range(len(shown)), [plain(one["experiment"]) for one in shown], fontsize=8)
    left.invert_yaxis()
    tied = any(one["difference"] is not None for one in shown)
    figure.supxlabel(
        "mean and 95 % interval over seeds" + ("; diamonds: the best, and what cannot be told from it" if tied else ""),
        fontsize=8,
    )
    return png(figure)


def smoothed(values: np.ndarray, weight: float = SMOOTHING) -> np.ndarray:
    """TensorBoard's exponential moving average, without its bias towards 0 at the beginning: float64 (N,) of (N,). What is no number
    stays so and is passed over."""
    found, last, seen = np.full(len(values), np.nan), 0.0, 0
    for place, value in enumerate(values):
        if np.isfinite(value):
            last, seen = weight * last + (1 - weight) * value, seen + 1
            found[place] = last / (1 - weight**seen)
    return found


def _plot(axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(left=0.5)
    axes.grid(**_GRID)
    axes.spines[["top", "right"]].set_visible(False)


def _upright(axes: Any, highest: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_ylim(0, 1.12 * max(highest, 1))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="y", **_GRID)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
