"""Which recipe is best and which cannot be told from it, from tables whose answer is known; the page says the same."""

import math

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from btc_ray.reports.experiments.figures import comparison, intervals, smoothed
from btc_ray.reports.experiments.record import assess, experiment_figures, table_lines, write_experiments
from btc_ray.reports.experiments.seeds import by_patient, holm, mean_interval, needed_difference, rank, runs

CLASSES = ("glioma", "no<tumor>")
COUNTS = {split: dict.fromkeys(CLASSES, images) for split, images in (("train", 300), ("validation", 50), ("test", 100))} | {
    "left_out": {"unreadable": 2}
}


def history(losses: dict[str, list[list[float]]], test_accuracy: float = 0.9) -> pa.Table:
    """`losses`: experiment → seed → validation loss of each epoch; test accuracy rises by 0.001 an epoch."""
    rows = []
    for number, (name, seeds) in enumerate(losses.items()):
        for seed, epochs in enumerate(seeds):
            for epoch, loss in enumerate(epochs, start=1):
                for split in ("train", "validation", "test"):
                    rows.append(
                        {
                            "experiment": name,
                            "experiment_id": f"{number:016x}",
                            "seed": seed,
                            "epoch": epoch,
                            "split": split,
                            "loss": loss + 0.1 * (split == "test"),
                            "accuracy": test_accuracy + 0.001 * epoch,
                            "learning_rate": 0.001,
                        }
                    )
    return pa.Table.from_pylist(rows)


def test_a_run_counts_with_its_epoch_of_least_validation_loss() -> None:
    found = runs(history({"a": [[0.5, 0.3, 0.4], [0.5, math.nan, 0.6]], "b": [[math.nan] * 3, [1.0, 0.9, 0.9]]}))
    assert found["epoch"].tolist() == [2, 1, 0, 2]
    assert found["validation_loss"].tolist()[:2] == [0.3, 0.5]
    assert found["test_loss"].tolist()[:2] == pytest.approx([0.4, 0.6])
    assert found["test_accuracy"].tolist()[:2] == pytest.approx([0.902, 0.901])
    assert np.isnan(found["validation_loss"][2])


def test_a_table_without_a_column_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'loss' is missing"):
        runs(history({"a": [[0.5]]}).drop_columns(["loss"]))


def test_intervals_are_students() -> None:
    values = [0.30, 0.32, 0.37]
    found = mean_interval(values)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert (found["low"], found["high"]) == pytest.approx((low, high))
    assert mean_interval([0.3]) == {"mean": 0.3, "low": None, "high": None, "deviation": None}
    assert mean_interval([0.3, math.inf])["mean"] is None


def test_holm_is_holms() -> None:
    # Worked by hand: 0.01 × 4; 0.015 × 3; max with 0.02 × 2 before it; 0.5.
    assert holm([0.5, 0.01, 0.02, 0.015]) == pytest.approx([0.5, 0.04, 0.045, 0.045])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_what_moves_with_the_seed_is_paired_away() -> None:
    """`near` is worse by about 0.01 with every seed, which unpaired the seeds' own spread of 0.1 would hide."""
    seeds = [0.2, 0.3, 0.4, 0.25]
    jitter = [0.0101, 0.0099, 0.0100, 0.0102]
    table = history(
        {
            "near": [[base + more] for base, more in zip(seeds, jitter, strict=True)],
            "best": [[base] for base in seeds],
            "same": [[base + more] for base, more in zip(seeds, [0.02, -0.015, 0.01, -0.01], strict=True)],
        }
    )
    ranked = rank(runs(table))
    assert [one["experiment"] for one in ranked] == ["best", "same", "near"]
    assert ranked[0]["difference"] is None
    assert ranked[2]["difference"]["told_apart"]
    assert ranked[2]["difference"]["mean"] == pytest.approx(0.01005)
    assert ranked[2]["difference"]["low"] > 0
    assert not ranked[1]["difference"]["told_apart"]
    assert ranked[1]["difference"]["low"] < 0 < ranked[1]["difference"]["high"]
    assert ranked[2]["difference"]["p_holm"] == pytest.approx(2 * ranked[2]["difference"]["p"])


def test_a_diverged_run_puts_its_experiment_last_and_out_of_the_comparison() -> None:
    ranked = rank(runs(history({"wild": [[0.01], [math.nan]], "tame": [[0.5], [0.6]]})))
    assert [(one["experiment"], one["diverged"]) for one in ranked] == [("tame", 0), ("wild", 1)]
    assert ranked[1]["difference"] is None
    assert ranked[1]["validation_loss"]["mean"] is None


def test_choosing_never_looks_at_the_test_images() -> None:
    table = history({"a": [[0.3], [0.31]], "b": [[0.4], [0.41]]})
    is_test = np.array(table["split"].to_pylist()) == "test"
    is_b = np.array(table["experiment"].to_pylist()) == "b"
    accuracy = np.where(is_test & is_b, 1.0, 0.5)
    table = table.set_column(table.column_names.index("accuracy"), "accuracy", pa.array(accuracy))
    assert [one["experiment"] for one in rank(runs(table))] == ["a", "b"]


def test_the_difference_that_single_runs_need_is_that_of_the_formulas() -> None:
    table = history({"a": [[0.3, 0.4], [0.4, 0.3]], "b": [[0.3, 0.4], [0.4, 0.3]]})  # test accuracies 0.901 and 0.902 in both
    needed = needed_difference(runs(table), images=1311, accuracy=0.9925)
    deviation = 0.001 / math.sqrt(2)
    assert needed["seed_deviation"] == pytest.approx(deviation)
    assert needed["seeds_alone"] == pytest.approx(stats.t.ppf(0.975, 2) * math.sqrt(2) * deviation)
    # McNemar's exact test needs six to none: 2 × 0.5⁶ = 0.031, while 2 × 0.5⁵ = 0.0625.
    assert needed["same_images"] == pytest.approx(6 / 1311)
    assert needed["published"] == pytest.approx(1.959964 * math.sqrt(2 * (deviation**2 + 0.9925 * 0.0075 / 1311)), rel=1e-5)
    assert needed["claim_images"] < 1
    alone = needed_difference(runs(history({"a": [[0.3]]})), images=1311, accuracy=0.9925)
    assert alone["seed_deviation"] is None
    assert alone["published"] == pytest.approx(1.959964 * math.sqrt(2 * 0.9925 * 0.0075 / 1311), rel=1e-5)


def test_smoothing_is_tensorboards() -> None:
    assert smoothed(np.array([2.0, 2.0, 2.0])).tolist() == pytest.approx([2, 2, 2])  # without bias towards 0
    assert smoothed(np.array([1.0, 0.0]), 0.6).tolist() == pytest.approx([1.0, 0.24 / 0.64])
    assert np.isnan(smoothed(np.array([math.nan, 1.0]))).tolist() == [True, False]


def assessed(table: pa.Table, right: dict[str, np.ndarray] | None = None) -> dict:
    names = dict.fromkeys(table["experiment"].to_pylist())
    record = assess(
        table,
        settings_of={name: {"optimizer": "sgd"} for name in names},
        counts=COUNTS,
        classes=CLASSES,
        right=right or {},
        groups=np.arange(200) // 20,
    )
    return record | {"facts": {"Runs": "4 runs", "Data": "<DATA>"}, "versions": {"torch": "2"}, "settings": {"seeds": 2}}


def test_the_verdict_names_the_best_those_like_it_and_what_a_difference_of_single_runs_says() -> None:
    record = assessed(history({"A <1>": [[0.3], [0.31]], "B": [[0.3], [0.312]], "C": [[math.nan], [0.1]]}))
    told = " ".join(record["verdict"]["paragraphs"])
    assert record["verdict"]["headline"] == "Best by validation loss: A <1>"
    assert record["verdict"]["tied"] == ["B"]
    assert "0.3050 (" in told
    assert "Without a figure in one run or more, and so out of the comparison: C." in told
    assert "0.9925 and 0.9931, of one run each, differ by 0.0006" in told
    assert "0.1 images of 200" in told
    assert "0.0300 on, 6 images that all speak for the same one" in told


def answers(rights_of_ten: int) -> np.ndarray:
    """Of ten patients with twenty test images each so many are answered rightly, each of them whole."""
    return np.repeat((np.arange(10) < rights_of_ten).astype(float), 20)


def test_an_interval_by_patient_is_that_of_so_many_patients_and_not_of_their_images() -> None:
    ranked = rank(runs(history({"a": [[0.3], [0.3]], "b": [[0.4], [0.4]], "c": [[0.5], [math.nan]]})))
    best, other, diverged = by_patient(ranked, {"a": answers(8), "b": answers(6)}, np.arange(200) // 20)
    assert best["test_by_group"]["value"] == pytest.approx(0.8)
    # Ten patients: 0.8 ± 2 √(0.8 · 0.2 / 10); two hundred independent images would be within 0.06.
    assert best["test_by_group"]["low"] == pytest.approx(0.5, abs=0.06)
    assert best["test_by_group"]["high"] == 1.0
    assert best["test_difference"] is None
    # The same patients, two of which only the best has right: never better than it, by none to five of ten.
    assert other["test_difference"]["value"] == pytest.approx(-0.2)
    assert (other["test_difference"]["low"], other["test_difference"]["high"]) == (pytest.approx(-0.5, abs=0.06), 0.0)
    assert diverged["test_by_group"] is None
    assert diverged["test_difference"] is None


def test_page_and_verdict_tell_what_other_patients_would_add() -> None:
    table = history({"a": [[0.3], [0.3]], "b": [[0.4], [0.4]], "c": [[0.5], [0.5]]})
    record = assessed(table, {"a": answers(8), "b": answers(1), "c": answers(7)})
    told = " ".join(record["verdict"]["paragraphs"])
    assert "Other patients: test accuracy 0.8000 (" in told
    assert "1 of the 2 others differ from it by more than patients do by chance" in told
    page = write_experiments(record, experiment_figures(table, record))
    assert "-0.7000<small>" in page
    assert "-0.1000<small>" in page


def test_one_seed_gives_figures_but_no_verdict_on_differences() -> None:
    record = assessed(history({"a": [[0.3]], "b": [[0.4]]}))
    told = " ".join(record["verdict"]["paragraphs"])
    assert "One seed has no spread" in told
    assert "cannot be told" not in told
    assert record["experiments"][1]["difference"] is None


def test_a_grid_without_any_figure_says_so() -> None:
    record = assessed(history({"a": [[math.nan], [math.nan]]}))
    assert record["verdict"]["headline"] == "No experiment has a figure for every seed"
    page = write_experiments(record, experiment_figures(history({"a": [[math.nan], [math.nan]]}), record))
    assert "2 of 2 diverged" in page


def test_the_page_holds_everything_and_fetches_nothing() -> None:
    table = history({"A <1>": [[0.3, 0.2], [0.31, 0.2]], "B": [[0.4, 0.3], [0.35, 0.3]]})
    record = assessed(table)
    pictures = experiment_figures(table, record)
    assert set(pictures) == {"class-counts", "split-per-class", "best-experiment", "comparison", "intervals"}
    assert all(picture.startswith(b"\x89PNG") for picture in pictures.values())
    page = write_experiments(record, pictures)
    assert page.count("data:image/png;base64,") == 5
    assert "http" not in page.replace("http-equiv", "")
    assert "A &lt;1&gt;" in page
    assert "&lt;DATA&gt;" in page
    assert "A <1>" not in page
    assert "Research use only" in page


def test_the_tables_first_lines_have_the_best_first_and_say_how_many_more() -> None:
    record = assessed(
        history({f"experiment {number:02}": [[0.5 - 0.01 * number], [0.5 - 0.01 * number]] for number in range(14)})
    )
    lines = table_lines(record)
    assert "experiment 13" in lines[1]
    assert "0.3700 0.3700 to 0.3700" in lines[1]
    assert lines[-1].strip() == "and 4 more"


def test_many_experiments_and_one_are_drawn() -> None:
    many = history({f"experiment {number}": [[0.5, 0.4 + number], [0.4, 0.3 + number]] for number in range(60)})
    for table in (many, history({"one": [[0.1]]})):
        record = assessed(table)
        names = [one["experiment"] for one in record["experiments"]]
        assert comparison(table.to_pandas(), names).startswith(b"\x89PNG")
        assert intervals(record["experiments"]).startswith(b"\x89PNG")
