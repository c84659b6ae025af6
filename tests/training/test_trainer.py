"""Which epoch becomes the model."""

from btc_ray.training.trainer import choose_epoch


def history(*accuracies: float) -> list[dict[str, object]]:
    return [
        {"epoch": number, "split": split, "accuracy": accuracy if split == "validation" else 1.0}
        for number, accuracy in enumerate(accuracies, 1)
        for split in ("train", "validation")
    ]


def test_the_latest_of_the_epochs_that_cannot_be_told_from_the_best_is_taken() -> None:
    assert choose_epoch(history(0.5, 0.96, 0.95), [1, 2, 3], independent=100) == 3  # one error is 0.02


def test_an_epoch_that_is_worse_for_certain_is_not() -> None:
    assert choose_epoch(history(0.5, 0.96, 0.95), [1, 2, 3], independent=10_000) == 2
    assert choose_epoch(history(0.5, 0.96, 0.6), [2, 3], independent=100) == 2


def test_of_what_was_kept_the_best_is_taken_where_the_very_best_was_not() -> None:
    assert choose_epoch(history(0.5, 0.99, 0.7, 0.6), [1, 3, 4], independent=10_000) == 3
