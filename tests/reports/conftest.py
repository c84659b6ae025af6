"""One browser for all tests of pages; each opens its own page in it."""

from collections.abc import Iterator

import pytest

from tests.browser import Browser, find_browser, open_browser


@pytest.fixture(scope="package")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    assert program is not None
    with open_browser(program, tmp_path_factory.mktemp("browser")) as browser:
        yield browser
