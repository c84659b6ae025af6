"""A class with a source of its own is told, a source that leaves a mark is found, and chance is not mistaken for one."""

import numpy as np
import pytest

from btc_ray.reports.audit.sources import class_by_source, sentences, tell_sources

COUNT = 200


def pictures(*, mark: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Frames of noise from two sources, those of the second brighter at the rim by `mark` grey levels; pairs are of one group."""
    random = np.random.default_rng(0)
    sources = np.array(["web", "clinic"], object)[np.arange(COUNT) % 2]
    frames = random.integers(0, 100, (COUNT, 64, 64)).astype(np.uint8)
    frames[sources == "clinic", :2] += mark
    return frames, random.random((COUNT, 32)).astype(np.float32), sources, np.arange(COUNT) // 4


def test_a_class_whose_images_all_come_from_where_no_other_does_has_a_source_of_its_own() -> None:
    found = class_by_source(["no"] * 100 + ["a"] * 60 + ["b"] * 60, ["web"] * 97 + ["lab"] * 3 + ["lab"] * 60 + ["lab"] * 60)
    assert found["own"] == {"no": {"sources": ["web"], "images": 97, "of": 100}}
    assert found["by_class"]["no"] == {"lab": 3, "web": 97}
    (said,) = sentences(found)
    assert said.startswith(
        "That a model tells no rather than its source: 97 of 100 images of no come from web, which gave hardly any"
    )


@pytest.mark.parametrize(
    ("labels", "sources"),
    [
        (["a", "b"] * 50, ["x", "x", "y", "y"] * 25),  # both from both
        (["a", "b"] * 50, ["x"] * 100),
        (["a"] * 100, ["x"] * 100),  # one class
        (["a", "b"] * 50, [None] * 100),
    ],
)
def test_where_classes_share_their_sources_nothing_is_said(labels: list[str], sources: list[str | None]) -> None:
    found = class_by_source(labels, sources)
    assert found["own"] == {}
    assert sentences(found) == []


def test_a_source_that_leaves_a_mark_at_the_rim_is_told_and_one_that_leaves_none_is_not() -> None:
    marked = tell_sources(*pictures(mark=60))
    right = {one["key"]: one["accuracy"]["value"] for one in marked["told"]}
    assert right["border"] > 0.95
    assert right["both"] > 0.95
    assert right["histogram"] < 0.65
    assert marked["chance"] == 0.5
    none = {"own": {}}
    (said,) = sentences(none | marked)
    assert said.startswith("That a source leaves no mark: ")
    assert "of 200 images of unseen groups, where always naming the largest would get 50.0%" in said
    assert sentences(none | tell_sources(*pictures(mark=0))) == []


@pytest.mark.parametrize(
    ("sources", "reason"),
    [
        (["x"] * COUNT, "two sources of 10 images each"),
        (["x"] * (COUNT - 9) + ["y"] * 9, "two sources of 10 images each"),
        ([str(number) for number in range(COUNT)], "200 different sources are too many"),
    ],
)
def test_what_cannot_be_told_apart_has_its_reason(sources: list[str], reason: str) -> None:
    frames, histograms, _, groups = pictures(mark=0)
    assert reason in tell_sources(frames, histograms, np.array(sources, object), groups)["reason"]
