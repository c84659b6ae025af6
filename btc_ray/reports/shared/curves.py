"""ROC curves and reliability diagrams of a `measure` record: as PNG for a paper, and as the coordinates that the page draws itself."""

from collections.abc import Mapping, Sequence
from typing import Any

from btc_ray.reports.shared.figures import LINES, plain, png

CORNER = 0.1  # of the false positives, and of the sensitivity from 1 down: where curves of good models differ


def roc_png(by_class: Sequence[Mapping[str, Any]]) -> bytes:
    """One class against the rest, a line a class; beside it the corner that tells good models apart, where a curve reaches it. PNG.

    Args:
        by_class: as in a record of `measure`; classes whose `roc` is None are not drawn.
    """
    from matplotlib.figure import Figure

    limits = (1.0, CORNER) if reaches_corner(by_class) else (1.0,)
    figure = Figure(figsize=(4.5 * len(limits), 4.4), dpi=150, layout="constrained")
    for axes, limit in zip(figure.subplots(1, len(limits), squeeze=False)[0], limits, strict=True):
        axes.plot([0, 1], [0, 1], color="#9aa7b0", linewidth=0.8, linestyle="--")
        for index, row in enumerate(by_class):
            if row["roc"] is None:
                continue
            axes.plot(
                row["roc"]["false_positive_rate"],
                row["roc"]["true_positive_rate"],
                color=LINES[index % len(LINES)],
                linestyle=("-", "--", "-.", ":")[index // len(LINES) % 4],
                linewidth=1.6,
                label=f"{plain(str(row['class']))}: {row['auroc']['value']:.4f}",
            )
        edge = 0.01 * limit
        axes.set(xlim=(-edge, limit), ylim=(1 - limit, 1 + edge), xlabel="1 − specificity", ylabel="sensitivity", aspect="equal")
        axes.set_title("one class against the rest" if limit == 1 else "the same, its upper left corner", fontsize=10)
        axes.grid(color="#d5dde2", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    if any(row["roc"] is not None for row in by_class):
        figure.axes[0].legend(frameon=False, title="AUROC", loc="lower right")
    else:
        figure.axes[0].text(0.5, 0.5, "fewer than two classes have images", ha="center", va="center")
    return png(figure)


def reaches_corner(by_class: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a curve has a point with at most CORNER false positives and at least 1 − CORNER sensitivity."""
    return any(
        x <= CORNER and y >= 1 - CORNER
        for row in by_class
        if row["roc"] is not None
        for x, y in zip(row["roc"]["false_positive_rate"], row["roc"]["true_positive_rate"], strict=True)
    )


def reliability_png(calibration: Mapping[str, Any]) -> bytes:
    """Accuracy over confidence, before and after the temperature; a point's area is its share of the images. PNG.

    Args:
        calibration: as in a record of `measure`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.4), dpi=150, layout="constrained")
    for index, (axes, name) in enumerate(zip(figure.subplots(1, 2), ("before", "after"), strict=True)):
        axes.plot([0, 1], [0, 1], color="#9aa7b0", linewidth=0.8, linestyle="--")
        bins = [row for row in calibration[name]["reliability"] if row["images"]]
        total = sum(row["images"] for row in bins)
        colour = LINES[1 - index]
        axes.vlines(
            [row["confidence"] for row in bins],
            [row["confidence"] for row in bins],
            [row["accuracy"] for row in bins],
            color=colour,
            linewidth=1,
        )
        axes.scatter(
            [row["confidence"] for row in bins],
            [row["accuracy"] for row in bins],
            s=[12 + 400 * row["images"] / total for row in bins],
            color=colour,
            alpha=0.75,
        )
        value = calibration[name]["ece"]["value"]
        axes.set_title(
            f"{name} the temperature of {calibration['temperature']:.3f}: ECE {'–' if value is None else f'{value:.4f}'}",
            fontsize=10,
        )
        axes.set(xlim=(0, 1.03), ylim=(-0.03, 1.03), xlabel="confidence", ylabel="accuracy", aspect="equal")
        axes.grid(color="#d5dde2", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    return png(figure)


def roc_lines(by_class: Sequence[Mapping[str, Any]], *, limit: float = 1.0) -> list[dict[str, Any]]:
    """`{name, index, points}` of each class that has a curve: points of an SVG polyline in a square of 100 × 100, its origin above
    on the left, showing 1 − specificity up to `limit` and sensitivity from 1 − `limit`; what lies outside is for the SVG to clip."""
    lines = []
    for index, row in enumerate(by_class):
        if row["roc"] is not None:
            pairs = zip(row["roc"]["false_positive_rate"], row["roc"]["true_positive_rate"], strict=True)
            points = " ".join(f"{100 * x / limit:.2f},{100 * (1 - y) / limit:.2f}" for x, y in pairs)
            lines.append({"name": row["class"], "index": index, "points": points})
    return lines


def reliability_points(bins: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`{x, y, diagonal, radius, label}` of each bin with images, in a square of 100 × 100 with its origin above on the left."""
    total = sum(row["images"] for row in bins)
    return [
        {
            "x": 100 * row["confidence"],
            "y": 100 * (1 - row["accuracy"]),
            "diagonal": 100 * (1 - row["confidence"]),
            "radius": 1.2 + 5 * (row["images"] / total) ** 0.5,
            "label": f"{row['images']:,} images: confidence {row['confidence']:.1%}, accuracy {row['accuracy']:.1%}",
        }
        for row in bins
        if row["images"]
    ]
