"""A random sample of a run: every image as likely as any other, the same for the same seed, however the rows come."""

import numpy as np
import pyarrow as pa
from scipy.stats import chi2

from btc_ray.reports.worklist.sample import METHOD, Sample, random_numbers, with_sample
from tests.reports.worklist.test_worklist import scores, worklist


def drawn(table: pa.Table, size: int, *, seed: int = 0, batch: int = 1000) -> list[int]:
    sample = Sample(size=size, seed=seed)
    for start in range(0, len(table), batch):
        sample.add(table.slice(start, batch))
    assert sample.rows is not None
    assert sample.population == len(table)
    return sample.rows["row_id"].to_pylist()


def test_the_sample_depends_on_the_seed_and_not_on_the_order_of_the_rows() -> None:
    table = scores(3000)
    shuffled = table.take(np.random.default_rng(1).permutation(3000))
    assert drawn(table, 200) == drawn(shuffled, 200, batch=77)
    assert drawn(table, 200) != drawn(table, 200, seed=1)
    assert len(set(drawn(table, 200))) == 200


def test_a_larger_sample_begins_with_the_smaller_one() -> None:
    assert drawn(scores(3000), 400)[:200] == drawn(scores(3000), 200)


def test_every_row_is_as_likely_as_any_other_whatever_its_row_id() -> None:
    times = np.zeros(500, int)
    for seed in range(2000):
        times[np.argsort(random_numbers(np.arange(500), seed))[:50]] += 1
    expected = 2000 * 50 / 500
    # Draws without replacement: the statistic is a little smaller than chi-squared, by 1 - 50/500.
    statistic = ((times - expected) ** 2 / expected).sum() / (1 - 50 / 500)
    assert chi2.ppf(0.0005, 499) < statistic < chi2.ppf(0.9995, 499)


def test_no_two_rows_of_a_seed_have_the_same_number() -> None:
    assert len(np.unique(random_numbers(np.arange(100_000), 3))) == 100_000


def test_a_review_records_who_was_drawn_from_how_many_and_how_likely_each_row_was() -> None:
    found = worklist(scores(3000), most=100, sample=60)
    table = with_sample(found.chosen(), found.sample)
    listed = found.chosen()["row_id"].to_pylist()
    assert table["row_id"].to_pylist()[:100] == listed
    assert table["place"].to_pylist()[:100] == list(range(100))
    assert table["place"].slice(100).null_count == len(table) - 100
    places = [place for place in table["drawn"].to_pylist() if place is not None]
    assert sorted(places) == list(range(60))
    scored = found.status["ok"]
    share = table["inclusion_probability"].to_numpy()
    assert set(share[:100]) == {1.0}
    assert set(share[100:]) == {60 / scored}
    assert found.sample.record() == {"rows": 60, "of": scored, "seed": 0, "method": METHOD}


def test_without_a_sample_a_worklist_has_the_columns_all_the_same() -> None:
    found = worklist(scores(300), most=100)
    table = with_sample(found.chosen(), found.sample)
    assert table["drawn"].null_count == len(table) == 100
    assert found.sample.record() is None


def test_a_run_with_fewer_images_than_asked_for_is_drawn_whole() -> None:
    table = scores(30)
    assert sorted(drawn(table, 200)) == list(range(30))
