"""A browser for each module that asks for one."""

from collections.abc import Iterator

import pytest

from tests.browser import Browser, find_browser, open_browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_browser()
    assert program is not None
    with open_browser(program, tmp_path_factory.mktemp("browser")) as browser:
        yield browser
