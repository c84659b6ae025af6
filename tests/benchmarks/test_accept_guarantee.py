"""Patients are redrawn whole, and both rules are printed side by side."""

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.accept_guarantee import before, halves, lower_bound, main, redrawn
from btc_ray.training.guarantee import NOTHING
from tests.training.clustered import PATIENTS, draw


def test_a_patient_is_in_one_half_only_and_redrawn_whole() -> None:
    answers = draw(np.random.default_rng(0))
    first, second = halves(answers, np.random.default_rng(1))
    assert len(first.right) + len(second.right) == len(answers.right)
    assert not set(first.confidence.tolist()) & set(second.confidence.tolist())
    order, starts = np.argsort(answers.units, kind="stable"), np.append(0, np.cumsum(np.bincount(answers.units)))
    again, whole = partial(redrawn, order=order, starts=starts)(answers, np.random.default_rng(1))
    assert whole is answers
    assert again.units.max() == answers.units.max()
    sizes = dict(zip(answers.confidence.tolist(), np.bincount(answers.units)[answers.units].tolist(), strict=True))
    drawn = np.bincount(again.units)[again.units]
    assert drawn.tolist() == [sizes[value] for value in again.confidence.tolist()]


def test_the_rule_of_before_takes_the_lowest_confidence_with_few_errors_and_nothing_of_few_images() -> None:
    answers = draw(np.random.default_rng(0))
    taken = answers.confidence >= before(answers, 0.02)
    assert 0.019 < (~answers.right[taken]).mean() <= 0.02
    assert before(answers, 1e-5) == NOTHING


def test_a_lower_bound_is_below_the_share_of_errors() -> None:
    answers = draw(np.random.default_rng(0))
    assert 0 < lower_bound(answers, 0.5) < (~answers.right).mean()
    assert lower_bound(answers, NOTHING) == 0


def test_both_rules_stand_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = draw(np.random.default_rng(0))
    likely = np.where(answers.right, answers.confidence, 1 - answers.confidence)
    patients = [f"p{unit}" if unit < PATIENTS else None for unit in answers.units.tolist()]
    columns = {"group": answers.units, "patient": patients, "label": ["a"] * len(likely), "prob_a": likely, "prob_b": 1 - likely}
    pq.write_table(pa.table(columns), tmp_path / "out_of_fold.parquet")
    monkeypatch.setattr(
        "sys.argv", ["accept_guarantee", str(tmp_path / "out_of_fold.parquet"), "--targets", "0.02", "--draws", "5"]
    )
    assert main() == 0
    printed = capsys.readouterr().out
    assert printed.count("| 2.0% |") == 4
    assert "- 2.0%, guarantee: confidence" in printed
