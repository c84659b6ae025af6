"""Templates are compiled once a process, and every page is filled with its own filters and from the templates as they are."""

from pathlib import Path

import jinja2
import pytest

from btc_ray.reports.shared import page


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(page, "REPORTS", tmp_path)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "page.html.j2").write_text("<p>{{ name | shown }}</p>")
    return tmp_path / "shared" / "page.html.j2"


def filled(name: str, shown: str) -> str:
    return page.render("page.html.j2", filters={"shown": lambda value: f"{shown} {value}"}, name=name)


def test_a_template_is_compiled_once_and_filled_with_the_filters_and_values_of_each_page(
    template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "<p>first a</p>" in filled("a", "first")

    def compiled(*_: object, **__: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(jinja2.Environment, "compile", compiled)
    assert "<p>second &lt;b&gt;</p>" in filled("<b>", "second")


def test_a_template_that_was_changed_is_compiled_again(template: Path) -> None:
    assert "<p>first a</p>" in filled("a", "first")
    template.write_text("<b>{{ name | shown }}</b>")
    assert "<b>first a</b>" in filled("a", "first")
