"""Second tries for what passes by itself (throttling, resets, an outage of a minute), and words for what does not.

A store that has answered this process before is waited for as long as a restart takes; one that never has is more likely
misspelt, and a person is told within seconds.
"""

import asyncio
import errno
import random
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from btc_ray.errors import BtcRayError
from btc_ray.storage.redact import redact

Result = TypeVar("Result")

PATIENCE_S = 90.0  # a store's node that restarts is back within half a minute; a failover takes about a minute
FIRST_CONTACT_S = 8.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0  # what an outage costs beyond its own length, at most half as much again

# EBUSY and EREMOTEIO are how s3fs passes on SlowDown, ServiceUnavailable and InternalError.
_PASSING_ERRNO = {
    getattr(errno, name)
    for name in (
        "EBUSY",
        "EREMOTEIO",
        "ETIMEDOUT",
        "ECONNRESET",
        "ECONNABORTED",
        "ECONNREFUSED",
        "EPIPE",
        "EAGAIN",
        "ENETUNREACH",
        "EHOSTUNREACH",
    )
    if hasattr(errno, name)
}
# The classes belong to packages that may not be installed, so they are known by name.
_PASSING_NAMES = frozenset(
    (
        *(
            "FSTimeoutError",
            "ServerTimeoutError",
            "ConnectTimeoutError",
            "ReadTimeoutError",
            "ConnectionError",
            "HTTPClientError",
        ),
        *("EndpointConnectionError", "ConnectionClosedError", "IncompleteRead", "IncompleteReadError", "ResponseParserError"),
        *("ServerDisconnectedError", "ClientPayloadError", "ClientConnectorError", "ClientConnectionError", "ClientOSError"),
        *("ServiceRequestError", "ServiceResponseError"),
    )
)


# What Ray Data matches with "class name: message" of an error; its own list knows only Arrow's S3. Not GaveUpError: that was tried.
PASSING_PATTERNS = (
    *sorted(_PASSING_NAMES - {"ConnectionError"}),
    *("TimeoutError", "ConnectionResetError", "ConnectionRefusedError", "ConnectionAbortedError", "BrokenPipeError"),
    *("SlowDown", "ServiceUnavailable", "reduce your request rate", "ServerBusy", r"HttpError: .*\b(429|50[0234])\b"),
)


_NO_SUCH_FILE = "no such file or folder: it was moved, deleted or misspelt"
_NO_PERMISSION = "no permission to read it: check its access rights or the credentials"


class GaveUpError(BtcRayError, OSError):
    """A store gave no useful answer for as long as it was waited for; the cause is its last error."""


class _Store:
    answered = False


def expect_answers() -> None:
    """From here on stores are known to be there (another process has read from them), and an outage is waited out."""
    _Store.answered = True


def is_passing(error: BaseException) -> bool:
    """Whether trying again may help."""
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError | GaveUpError):
        return False
    return (_is_silence(error) or _is_refusal(error)) and not _is_untrusted(error)


def _is_silence(error: BaseException) -> bool:
    """Whether nothing came back that a store could have said."""
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    return any(kind.__name__ in _PASSING_NAMES for kind in type(error).__mro__)


def _is_refusal(error: BaseException) -> bool:
    """Whether the store, or something before it, said "not now"."""
    if isinstance(error, OSError) and error.errno in _PASSING_ERRNO:
        return True
    code = http_status(error)
    return code is not None and (code in (408, 429) or code >= 500)


def http_status(error: BaseException) -> int | None:
    """The HTTP status an aiohttp, gcsfs or Azure error carries."""
    for name in ("status", "code", "status_code"):
        value = getattr(error, name, None)
        if isinstance(value, int | str) and str(value).isdigit() and 100 <= int(value) < 600:
            return int(value)
    return None


class _Tries:
    """The tries of one action: how long to wait before the next one."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._waited = 0.0
        self._count = 0

    def pause(self, error: Exception) -> float:
        """Seconds until the next try. Raises `error` where it does not pass by itself, GaveUpError where patience is at its end."""
        silence = _is_silence(error)
        if not silence:
            expect_answers()
        if not is_passing(error):
            raise error
        patience = PATIENCE_S if _Store.answered else FIRST_CONTACT_S
        spent = max(time.monotonic() - self._began, self._waited)
        if spent >= patience:
            words = f"did not answer for {spent:.0f} s ({redact(str(error))})" if silence else f"refused for {spent:.0f} s"
            raise GaveUpError(f"the store {words}; check the endpoint and the network, then run the command again") from error
        # Thousands of workers throttled together must not come back together.
        pause = min(FIRST_PAUSE_S * 2**self._count, LONGEST_PAUSE_S) * random.uniform(0.5, 1.5)
        pause = min(pause, patience - spent)
        self._count += 1
        self._waited += pause
        return pause


def retrying(action: Callable[[], Result], *, sleep: Callable[[float], None] = time.sleep) -> Result:
    """`action()`, again after errors that pass by themselves, for PATIENCE_S (FIRST_CONTACT_S while no store has answered yet).

    Pauses double up to LONGEST_PAUSE_S and are jittered. Raises GaveUpError at the end, any other error at once.
    """
    tries = _Tries()
    while True:
        try:
            result = action()
        except Exception as error:  # noqa: BLE001 — every file system raises its own kinds
            sleep(tries.pause(error))
        else:
            expect_answers()
            return result


async def retrying_async(action: Callable[[], Awaitable[Result]]) -> Result:
    """`retrying` for a coroutine."""
    tries = _Tries()
    while True:
        try:
            result = await action()
        except Exception as error:  # noqa: BLE001
            await asyncio.sleep(tries.pause(error))
        else:
            expect_answers()
            return result


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what it was made of, the outermost first."""
    found: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in found and len(found) < 8:
        found.append(following)
        inner = getattr(following, "os_error", None)  # aiohttp's
        following = inner if isinstance(inner, BaseException) else following.__cause__ or following.__context__
    return found


def _is_untrusted(error: BaseException) -> bool:
    """Whether a server's certificate is not trusted: trying again does not help."""
    return any(isinstance(one, ssl.SSLCertVerificationError) or "CertificateError" in type(one).__name__ for one in _chain(error))


def _of_the_network(error: BaseException) -> str | None:
    """What kept an answer from coming at all, where that is known."""
    if _is_untrusted(error):
        return "the server's certificate is not trusted (TLS): check the address, the clock and the certificates of this machine"
    chain = _chain(error)
    if any(isinstance(one, ssl.SSLError) or "SSLError" in type(one).__name__ for one in chain):
        return "no secure connection to the server (TLS): check that it speaks https on this port"
    if any(isinstance(one, socket.gaierror) or "DNSError" in type(one).__name__ for one in chain):
        return "the server's name cannot be resolved (DNS): check its spelling and the network"
    if any(isinstance(one, ConnectionRefusedError) for one in chain):
        return "the store did not answer after several tries (connection refused): check the network and the endpoint, then retry"
    return None


def _of_http(code: int) -> str | None:
    """What an HTTP status says, None where it says nothing of an error."""
    if code in (401, 403):
        return _NO_PERMISSION
    if code in (404, 410):
        return _NO_SUCH_FILE
    if code == 407:
        return "the proxy asks for credentials (HTTP 407): check https_proxy and http_proxy"
    if code in (408, 429, 503):
        return f"the server was too busy after several tries (HTTP {code}): try again later"
    if code >= 500:
        return f"the server failed after several tries (HTTP {code}): try again later"
    return f"the server refused the request (HTTP {code})" if code >= 400 else None


def explain(error: BaseException) -> str:
    """Why a file or folder could not be had, and what to do; no path in it, so equal causes count together."""
    if isinstance(error, FileNotFoundError):
        return _NO_SUCH_FILE
    if isinstance(error, PermissionError):
        return _NO_PERMISSION
    if isinstance(error, IsADirectoryError):
        return "it is a folder, not a file"
    last = (error.__cause__ or error) if isinstance(error, GaveUpError) else error
    code = http_status(last)
    if code is not None and (words := _of_http(code)):
        return words
    of_network = not isinstance(last, OSError) or is_passing(last) or isinstance(last, ssl.SSLError | socket.gaierror)
    if of_network and (words := _of_the_network(last)):
        return words
    if is_passing(error) or isinstance(error, GaveUpError):
        kind = type(last).__name__
        return f"the store did not answer after several tries ({kind}): check the network and the endpoint, then retry"
    if type(error).__name__ == "AnswerTooLongError":
        return str(error)
    if isinstance(error, OSError) and error.strerror and error.errno is not None:
        return f"it cannot be read ({error.strerror})"
    return f"it cannot be read ({type(error).__name__})"
