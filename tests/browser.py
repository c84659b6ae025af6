"""A headless Chromium, driven over the Chrome DevTools Protocol: pages are opened, asked and typed at as a person would, and whatever
they say on the console or ask of the network is kept.

https://chromedevtools.github.io/devtools-protocol/
"""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
MISSING = f"needs a browser on PATH: {', '.join(NAMES)}"
TIMEOUT = 60.0  # s, of every step: a test machine may have better things to do than to start a browser

_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0", "--no-first-run",
    "--no-default-browser-check", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-breakpad",
)  # fmt: skip
_KEYS = {  # key → code, number, what it types
    "Tab": ("Tab", 9, ""), "Enter": ("Enter", 13, "\r"), " ": ("Space", 32, " "), "Escape": ("Escape", 27, ""),
    "Backspace": ("Backspace", 8, ""), "ArrowLeft": ("ArrowLeft", 37, ""), "ArrowRight": ("ArrowRight", 39, ""),
    **{digit: (f"Digit{digit}", ord(digit), digit) for digit in "0123456789"},
    **{letter: (f"Key{letter.upper()}", ord(letter.upper()), letter) for letter in "abcdefghijklmnopqrstuvwxyz"},
}  # fmt: skip
_SHIFT = 8  # the protocol's bit for it

Scheme: TypeAlias = Literal["light", "dark"]

_Result = TypeVar("_Result")


class BrowserError(RuntimeError):
    """A browser that does not start, does not answer, or whose script failed."""


@dataclass(kw_only=True)
class Visit:
    """What a page has done since it was opened; it grows with every call to the browser.

    Attributes:
        problems: console messages of any level, exceptions, the browser's own log (a refused request, a broken policy), dialogs.
        requests: what was asked for beside the page itself and data: URIs.
    """

    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def find_browser() -> str | None:
    """The first of NAMES on PATH."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@contextlib.contextmanager
def open_browser(program: str, profile: Path) -> Iterator["Browser"]:
    """A browser of one tab with everything it writes in `profile`, a folder; ended with all its processes. Raises BrowserError."""
    profile.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"HOME": str(profile)}  # certificates, fonts and crash reports would go to the user's
    with (profile / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    try:
        browser = Browser(_port(process, profile))
        try:
            yield browser
        finally:
            browser.close()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _port(process: "subprocess.Popen[bytes]", profile: Path) -> int:
    """Where it listens, once it does."""
    until = time.monotonic() + TIMEOUT
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(FileNotFoundError):
            lines = (profile / "DevToolsActivePort").read_text().splitlines()
            if len(lines) == 2:  # else it is still being written
                return int(lines[0])
        time.sleep(0.05)
    state = f"did not listen within {TIMEOUT:.0f} s" if process.poll() is None else f"ended with {process.returncode}"
    raise BrowserError(f"the browser {state}:\n{(profile / 'browser.log').read_text(errors='replace')[-2000:]}")


class Browser:
    """One tab. Every call waits for what it asked; nothing runs between calls. Raises BrowserError."""

    def __init__(self, port: int) -> None:
        self._runner = asyncio.Runner()
        self._last = 0
        self._visit = Visit()
        self._page, self._width = "", 0
        self._loaded: set[str] = set()
        self._run(self._connect(port))

    def close(self) -> None:
        """Let go of the tab."""
        self._run(self._session.close())
        self._runner.close()

    def open(self, page: Path, *, width: int, height: int, scheme: Scheme = "light", mobile: bool = False) -> Visit:
        """Load a file at this size in CSS pixels, and say what it did."""
        self._visit, self._page = Visit(), page.resolve().as_uri()
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self._width = width
        self._call("Emulation.setDeviceMetricsOverride", **size)
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        began = self._call("Page.navigate", url=self._page)
        if "errorText" in began:
            raise BrowserError(f"{self._page}: {began['errorText']}")
        self._run(self._wait_for_load(began["loaderId"]))
        return self._visit

    def evaluate(self, script: str) -> Any:
        """The value of an expression, or of what it promises, as JSON has it."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise BrowserError(f"{_exception(answer['exceptionDetails'])} in {script[:200]}")
        return answer["result"].get("value")

    def wait_for(self, script: str) -> None:
        """Wait until an expression is true: what follows an event may happen after the call that caused it. Raises BrowserError."""
        until = time.monotonic() + TIMEOUT
        while not self.evaluate(script):
            if time.monotonic() > until:
                raise BrowserError(f"{script[:200]} was not true within {TIMEOUT:.0f} s")
            time.sleep(0.02)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press and release a key: one of _KEYS."""
        code, number, text = _KEYS[key]
        named = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": _SHIFT * shift}
        self._call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **named)
        self._call("Input.dispatchKeyEvent", type="keyUp", **named)

    def type(self, text: str) -> None:
        """Write into what has the focus."""
        self._call("Input.insertText", text=text)

    def download(self, folder: Path, name: str, act: str) -> bytes:
        """What a script makes the page save as `name`, in an empty folder."""
        self._call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        self.evaluate(act)
        until = time.monotonic() + TIMEOUT
        # It has another name until it is whole; beneath its own an empty file may stand before it.
        while not (folder / name).exists() or not (folder / name).stat().st_size:
            if time.monotonic() > until:
                raise BrowserError(
                    f"{name} was not saved within {TIMEOUT:.0f} s; there is {[file.name for file in folder.iterdir()]}"
                )
            time.sleep(0.02)
        return (folder / name).read_bytes()

    def screenshot(self, path: Path, *, top: int = 0, most: int = 4000) -> None:
        """The page from `top` on as PNG, `most` CSS pixels of it at most, all its pictures decoded."""
        self.evaluate("Promise.allSettled([...document.images].map((i) => { i.loading = 'eager'; return i.decode(); }))")
        height = self.evaluate("document.documentElement.scrollHeight")
        clip = {"x": 0, "y": top, "width": self._width, "height": max(1, min(most, height - top)), "scale": 1}
        answer = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return self._runner.run(work)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._run(self._ask(method, **parameters))

    async def _connect(self, port: int) -> None:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, connect=TIMEOUT))
        async with self._session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            (tab,) = (target for target in await answer.json(content_type=None) if target["type"] == "page")
        self._socket = await self._session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0)
        for room in ("Page", "Runtime", "Log", "Network"):
            await self._ask(f"{room}.enable")
        await self._ask("Page.setLifecycleEventsEnabled", enabled=True)

    async def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = await self._send(method, **parameters)
        while (answer := await self._next(method)).get("id") != number:
            await self._keep(answer)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    async def _send(self, method: str, **parameters: Any) -> int:
        self._last += 1
        await self._socket.send_json({"id": self._last, "method": method, "params": parameters})
        return self._last

    async def _next(self, wanted: str) -> dict[str, Any]:
        try:
            message = await asyncio.wait_for(self._socket.receive(), TIMEOUT)
        except TimeoutError as error:
            raise BrowserError(f"no answer to {wanted} within {TIMEOUT:.0f} s") from error
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise BrowserError(f"the tab is gone, waiting for {wanted}: {message.type.name}")
        return dict(json.loads(message.data))

    async def _wait_for_load(self, loader: str) -> None:
        while loader not in self._loaded:
            await self._keep(await self._next(f"the load of {self._page}"))

    async def _keep(self, message: dict[str, Any]) -> None:
        """Remember what an event tells; a dialog is closed, for nothing goes on beneath it."""
        event, told = message.get("method"), message.get("params", {})
        problems = self._visit.problems
        if event == "Page.lifecycleEvent" and told["name"] == "load":
            self._loaded.add(told["loaderId"])
        elif event == "Runtime.consoleAPICalled":
            problems.append(f"console {told['type']}: {' '.join(str(part.get('value', part)) for part in told['args'])}")
        elif event == "Runtime.exceptionThrown":
            problems.append(f"exception: {_exception(told['exceptionDetails'])}")
        elif event == "Log.entryAdded":
            problems.append(f"log {told['entry']['level']}: {told['entry']['text']} {told['entry'].get('url', '')}")
        elif event == "Page.javascriptDialogOpening":
            problems.append(f"dialog: {told['message']}")
            await self._send("Page.handleJavaScriptDialog", accept=False)
        elif event == "Network.requestWillBeSent":
            url = told["request"]["url"]
            if url != self._page and not url.startswith("data:"):
                self._visit.requests.append(url)


def _exception(details: dict[str, Any]) -> str:
    return str(details.get("exception", {}).get("description") or details["text"])
