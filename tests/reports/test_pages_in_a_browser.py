"""Our pages as Chromium shows them: nothing fetched, nothing said on the console, nothing wider than the window, readable by day and
by night."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.browser import MISSING, Browser, Scheme, Visit, find_browser
from tests.reports import pages

PAGES = ("audit", "evaluation", "exams", "experiments", "review", "summary")
DESKTOP, PHONE = 1280, 390  # CSS pixels

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_browser() is None, reason=MISSING)]

# Elements that end beyond the window or its scroll bar, of those that no container scrolls or hides. On a phone a page that is too wide
# is shown smaller and its innerWidth grows, so the width asked for is what counts.
TOO_WIDE = """(asked) => {
  const width = Math.min(asked, document.documentElement.clientWidth);
  for (const closed of document.querySelectorAll("details")) closed.open = true;
  const held = (element) => element && (getComputedStyle(element).overflowX !== "visible" || held(element.parentElement));
  const beyond = [...document.body.querySelectorAll(":not(svg *)")].filter((element) => {
    const box = element.getBoundingClientRect();
    return box.width && (box.right > width + 1 || box.left < -1) && !held(element.parentElement);
  }).map((element) => element.tagName + "." + element.className + ": " + element.textContent.slice(0, 40));
  const whole = document.documentElement.scrollWidth;
  return whole > width ? [...beyond, `the page is ${whole} wide`] : beyond;
}"""

# Text against what is behind it: contrast by WCAG 2.2, 1.4.3, which asks for 4.5, for large text 3, and nothing of what is disabled.
TOO_FAINT = """() => {
  for (const closed of document.querySelectorAll("details")) closed.open = true;
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true }), known = new Map();
  const parts = (colour) => {
    if (!known.has(colour)) {
      canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
      known.set(colour, [...canvas.getImageData(0, 0, 1, 1).data].map((part) => part / 255));
    }
    return known.get(colour);
  };
  const over = (above, below) => [0, 1, 2].map((k) => above[3] * above[k] + (1 - above[3]) * below[k]);
  const behind = (element) => element ? over(parts(getComputedStyle(element).backgroundColor), behind(element.parentElement))
    : matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0] : [1, 1, 1];
  const bright = (colour) => colour.map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, k) => sum + part * [0.2126, 0.7152, 0.0722][k], 0);
  const faint = new Set();
  for (const element of document.body.querySelectorAll(":not(script, style, noscript, option, svg *)")) {
    const said = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.textContent).join("").trim();
    if (!said && !element.matches("input, select") || element.closest(":disabled") || !element.checkVisibility()) continue;
    const style = getComputedStyle(element), size = parseFloat(style.fontSize), ground = behind(element);
    const [low, high] = [bright(ground), bright(over(parts(style.color), ground))].sort((one, other) => one - other);
    const least = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < least) faint.add(`${element.tagName}.${element.className} ${ratio.toFixed(2)}: ${said.slice(0, 30)}`);
  }
  return [...faint];
}"""


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What a page is like in one window."""

    visit: Visit
    too_wide: list[str]
    too_faint: list[str]
    ground: str


Look: TypeAlias = Callable[[str, int, Scheme], Looked]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    texts = {
        "audit": pages.audit(),
        "evaluation": pages.evaluation(),
        "exams": pages.exams(),
        "experiments": pages.experiments(),
        "review": pages.review(500)[0],
        "summary": pages.summary(),
    }
    assert set(texts) == set(PAGES)
    for name, text in texts.items():
        (folder / f"{name}.html").write_bytes(text.encode())
    return {name: folder / f"{name}.html" for name in texts}


@pytest.fixture(scope="module")
def look(browser: Browser, files: dict[str, Path]) -> Look:
    """A page in a window of this width and scheme, opened once for all tests."""
    seen: dict[tuple[str, int, Scheme], Looked] = {}

    def at(name: str, width: int, scheme: Scheme) -> Looked:
        if (name, width, scheme) not in seen:
            seen[name, width, scheme] = Looked(
                visit=browser.open(files[name], width=width, height=900, scheme=scheme, mobile=width == PHONE),
                too_wide=browser.evaluate(f"({TOO_WIDE})({width})"),
                too_faint=browser.evaluate(f"({TOO_FAINT})()"),
                ground=browser.evaluate("getComputedStyle(document.body).backgroundColor"),
            )
        return seen[name, width, scheme]

    return at


every_window = pytest.mark.parametrize(
    ("width", "scheme"), [(width, scheme) for width in (DESKTOP, PHONE) for scheme in ("light", "dark")]
)
every_page = pytest.mark.parametrize("name", PAGES)


def test_a_page_with_every_fault_is_found_out(browser: Browser, tmp_path: Path) -> None:
    """What the other tests find nothing of would be found."""
    page = tmp_path / "bad.html"
    page.write_text(
        '<!DOCTYPE html><meta name="viewport" content="width=device-width"><body style="background: #fff; color: #999">faint'
        '<div style="width: 600px">wide</div><div style="overflow: auto"><p style="width: 700px">scrolled</p></div><img src="gone.png">'
        "<script>console.error('told'); setTimeout(() => alert('stop')); throw new Error('thrown')</script>"
    )  # fmt: skip
    visit = browser.open(page, width=390, height=800, mobile=True)
    wide = browser.evaluate(f"({TOO_WIDE})(390)")
    faint = browser.evaluate(f"({TOO_FAINT})()")
    assert wide == ["DIV.: wide", "the page is 608 wide"]
    assert [line.partition(" ")[0] for line in faint] == ["DIV.", "P."]
    assert visit.requests == [(tmp_path / "gone.png").as_uri()]
    for said in ("console error: told", "exception: Error: thrown", "dialog: stop", "ERR_FILE_NOT_FOUND"):
        assert any(said in problem for problem in visit.problems)


@every_page
@every_window
def test_a_page_says_nothing_on_the_console_and_asks_nothing_of_the_network(
    name: str, width: int, scheme: Scheme, look: Look
) -> None:
    assert look(name, width, scheme).visit == Visit()


@every_page
@every_window
def test_nothing_is_wider_than_the_window(name: str, width: int, scheme: Scheme, look: Look) -> None:
    found = look(name, width, scheme).too_wide
    assert not found, "\n".join(found)


@every_page
@every_window
def test_all_text_stands_out_from_what_is_behind_it(name: str, width: int, scheme: Scheme, look: Look) -> None:
    found = look(name, width, scheme).too_faint
    assert not found, "\n".join(found)


@every_page
def test_a_page_is_dark_where_the_reader_wants_it_dark(name: str, look: Look) -> None:
    assert look(name, DESKTOP, "light").ground == "rgb(245, 247, 248)"
    assert look(name, DESKTOP, "dark").ground == "rgb(16, 22, 27)"
