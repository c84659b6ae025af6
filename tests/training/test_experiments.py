"""A grid is read as it was meant, refused where it cannot be run, and a run is the same for the same recipe, head and seed."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from btc_ray.settings.recipe import RECIPES, Recipe
from btc_ray.training.experiments import run_file, train_head
from btc_ray.training.grid import REPORT_GRID, GridError, expand, read_grid
from btc_ray.training.loop import Examples


def names(text: str, most: int = 1000) -> list[str]:
    return [experiment.name for experiment in read_grid(text.encode(), "grid.yaml", most=most)]


def test_the_default_grid_is_the_reports() -> None:
    recipes = [experiment.recipe for experiment in expand(REPORT_GRID, "grid", most=1000)]
    assert len(recipes) >= 12
    assert {recipe.optimizer for recipe in recipes} == {"sgd", "nadam"}
    assert {recipe.label_smoothing for recipe in recipes} == {0.0, 0.1}
    assert {recipe.step_epochs for recipe in recipes} == {0, RECIPES["head"].step_epochs}
    assert len({recipe.momentum for recipe in recipes if recipe.optimizer == "sgd"}) == 2
    assert RECIPES["head"] in recipes
    claimed = [one for one in recipes if (one.optimizer, one.learning_rate, one.momentum) == ("sgd", 0.001, 0.9)]
    assert {one.epochs for one in claimed} == {24}


def test_a_mapping_means_all_combinations() -> None:
    assert names("{optimizer: [adamw], learning_rate: [0.1, 1e-3], schedule: [constant, cosine]}") == [
        "AdamW 0.1 · cross-entropy · constant",
        "AdamW 0.1 · cross-entropy · cosine",
        "AdamW 0.001 · cross-entropy · constant",
        "AdamW 0.001 · cross-entropy · cosine",
    ]


def test_a_list_means_the_union_and_each_recipe_once() -> None:
    assert names("[{optimizer: sgd, momentum: [0.5, 0.9]}, {optimizer: [sgd, nadam], momentum: 0.9}]") == [
        "SGD 0.001 · momentum 0.5 · cross-entropy · step",
        "SGD 0.001 · momentum 0.9 · cross-entropy · step",
        "NAdam 0.001 · cross-entropy · step",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "{optimizer: nadam, momentum: [0.1, 0.5, 0.9]}",
        "{schedule: cosine, step_epochs: [3, 7], step_factor: [0.1, 0.5]}",
        "{schedule: constant, step_epochs: [3, 7], step_factor: [0.1, 0.5]}",
    ],
)
def test_settings_without_effect_do_not_make_two_recipes_of_one(text: str) -> None:
    assert len(names(text)) == 1


def test_names_say_what_differs_and_no_more() -> None:
    told = names("{epochs: [5, 5, 9], standardise: false, step_factor: [0.1]}")
    assert told == [
        "NAdam 0.001 · cross-entropy · step × 0.1 every 7",
        "NAdam 0.001 · cross-entropy · step × 0.1 every 7 · epochs 9",
    ]
    assert names("[{name: mine, learning_rate: 0.1}, {name: others, learning_rate: [1, 2]}]") == [
        "mine",
        "others: NAdam 1 · cross-entropy · step",
        "others: NAdam 2 · cross-entropy · step",
    ]


def test_names_are_told_apart_where_they_look_the_same() -> None:
    found = names("{learning_rate: [0.1, 0.1000000001]}")
    assert len(set(found)) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "grid.yaml is empty"),
        ("[]", "grid.yaml is empty"),
        ("just words", "neither a mapping"),
        ("[1, 2]", "1 is no mapping"),
        ("{a: [", "grid.yaml is not YAML"),
        ("{lerning_rate: [0.1]}", "lerning_rate is no setting"),
        ("{learning_rate: []}", "learning_rate has no values"),
        ("{learning_rate: [fast]}", "learning_rate is 'fast'; it must be a number"),
        ("{learning_rate: [.nan]}", "it must be a number"),
        ("{learning_rate: [true]}", "it must be a number"),
        ("{learning_rate: [-1]}", "--learning-rate must be more than 0"),
        ("{optimizer: [adam]}", "--optimizer is 'adam'; it can be sgd, nadam, adamw"),
        ("{optimizer: [[sgd]]}", "--optimizer"),
        ("{epochs: [1.5]}", "epochs is 1.5; it must be a whole number"),
        ("{flips: [1]}", "flips is 1; it can be true or false"),
        ("{train: [all]}", "train is 'all'"),
        ("{rotate: [10]}", "--rotate does not go with --train head"),
        ("{resolutions: [[96, 128]]}", "--resolutions"),
        ("{name: [a, b]}", "name is"),
        ("{epochs: [1, 2, 3], batch_size: [8, 16], clip: [0, 1]}", "12 combinations, more than 10"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(text: str, words: str) -> None:
    with pytest.raises(GridError) as caught:
        names(text, most=10)
    assert words in str(caught.value)


def test_a_grid_of_a_billion_is_refused_before_it_is_made() -> None:
    values = list(range(1, 1001))
    with pytest.raises(GridError, match="1,000,000,000 combinations"):
        expand({"epochs": values, "batch_size": values, "step_epochs": values}, "grid", most=1000)


def test_the_same_recipe_is_kept_under_the_same_name_whatever_it_is_called() -> None:
    (one,) = read_grid(b"{name: mine, learning_rate: 0.01}", "a", most=1)
    (other,) = read_grid(b"{learning-rate: [1e-2], momentum: 0.3}", "b", most=1)
    (third,) = read_grid(b"{learning_rate: 0.02}", "c", most=1)
    assert run_file(one, 1) == run_file(other, 1)
    assert len({run_file(one, 1), run_file(one, 2), run_file(third, 1)}) == 3
    # A recipe's id is for good: kept runs are found by it, also by versions whose recipes have more settings.
    assert one.experiment_id == "c584c081b14df826"


def data(count: int = 211, seed: int = 0) -> Examples:
    """Features in three classes that a line can tell apart, mostly."""
    random = np.random.default_rng(seed)
    labels = random.integers(3, size=count)
    features = random.normal(size=(count, 4, 512)).astype(np.float32)
    features[np.arange(count), :, labels] += 3
    return Examples(inputs=features, labels=labels, copies=np.arange(count))


DATA = {"train": data(), "validation": data(101, 1), "test": data(97, 2)}


def run(seed: int, **changes: Any) -> list[dict[str, Any]]:
    recipe: Recipe = RECIPES["head"].changed(epochs=4, batch_size=16, learning_rate=0.01, **changes)
    torch.manual_seed(seed)
    return train_head(recipe, DATA, nn.Linear(512, 3).state_dict(), classes=3, seed=seed)


def test_a_run_learns_and_measures_every_split_in_every_epoch() -> None:
    rows = run(0)
    assert [(row["epoch"], row["split"]) for row in rows] == [
        (epoch, split) for epoch in range(1, 5) for split in ("train", "validation", "test")
    ]
    assert rows[-1]["loss"] < rows[2]["loss"]
    assert rows[-1]["accuracy"] > 0.8


def test_a_run_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    assert run(0) == run(0)
    assert run(0) != run(1)


def test_a_test_set_changes_nothing_that_is_learned() -> None:
    torch.manual_seed(0)
    head = nn.Linear(512, 3).state_dict()
    recipe = RECIPES["head"].changed(epochs=4, batch_size=16, learning_rate=0.01)
    without = train_head(recipe, {name: DATA[name] for name in ("train", "validation")}, head, classes=3, seed=0)
    assert without == [row for row in run(0) if row["split"] != "test"]


def test_a_run_says_which_test_images_it_has_right_in_the_epoch_that_counts() -> None:
    rows = run(0)
    said = [row for row in rows if row.get("right") is not None]
    assert len(said) == 1
    validation = {row["epoch"]: row["loss"] for row in rows if row["split"] == "validation"}
    assert said[0]["split"] == "test"
    assert validation[said[0]["epoch"]] == min(validation.values())
    assert len(said[0]["right"]) == len(DATA["test"].labels)
    assert np.mean(said[0]["right"]) == pytest.approx(said[0]["accuracy"])


def test_a_label_of_several_classes_is_right_where_one_of_them_is_said() -> None:
    members = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], bool)
    several = replace(DATA["test"], labels=np.where(np.arange(97) % 2, DATA["test"].labels, 3), members=members)
    torch.manual_seed(0)
    rows = train_head(
        RECIPES["head"].changed(epochs=3, batch_size=16, learning_rate=0.01),
        DATA | {"test": several},
        nn.Linear(512, 3).state_dict(),
        classes=3,
        seed=0,
    )
    (said,) = [row for row in rows if row.get("right") is not None]
    assert np.mean(said["right"]) == pytest.approx(said["accuracy"])


def test_patience_ends_a_run() -> None:
    worse = train_head(
        RECIPES["head"].changed(epochs=50, batch_size=16, learning_rate=1.0, patience=2),
        DATA | {"validation": data(101, 1)},
        nn.Linear(512, 3).state_dict(),
        classes=3,
        seed=0,
    )
    losses = [row["loss"] for row in worse if row["split"] == "validation"]
    assert len(losses) < 50
    assert len(losses) - 1 - int(np.argmin(losses)) == 2
