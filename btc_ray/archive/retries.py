"""Second tries for what passes by itself (throttling, resets, timeouts), and words for what does not."""

import errno
import random
import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

ATTEMPTS = 4
FIRST_PAUSE = 0.5  # seconds; 0.5 + 1 + 2 = 3.5 s before giving up, on top of what the file system retries itself

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


def is_passing(error: BaseException) -> bool:
    """Whether trying again may help."""
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError):
        return False
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    if isinstance(error, OSError) and error.errno in _PASSING_ERRNO:
        return True
    if any(kind.__name__ in _PASSING_NAMES for kind in type(error).__mro__):
        return True
    code = _http_status(error)
    return code is not None and (code in (408, 429) or code >= 500)


def _http_status(error: BaseException) -> int | None:
    """The HTTP status an aiohttp, gcsfs or Azure error carries."""
    for name in ("status", "code", "status_code"):
        value = getattr(error, name, None)
        if isinstance(value, int):
            return value
        if isinstance(value, str) and value.isdigit():
            return int(value)
    return None


def retrying(
    action: Callable[[], Result],
    *,
    attempts: int = ATTEMPTS,
    pause: float = FIRST_PAUSE,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """`action()`, again after errors that pass by themselves, at most `attempts` times; pauses double and are jittered
    (seconds).
    """
    for attempt in range(1, attempts + 1):
        try:
            return action()
        except Exception as error:
            if attempt >= attempts or not is_passing(error):
                raise
            # Thousands of workers throttled together must not come back together.
            sleep(pause * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))
    raise AssertionError("attempts must be at least 1")


def explain(error: BaseException) -> str:
    """Why a file or folder could not be had, and what to do; no path in it, so equal causes count together."""
    if isinstance(error, FileNotFoundError):
        return "no such file or folder: it was moved, deleted or misspelt"
    if isinstance(error, PermissionError) or _http_status(error) in (401, 403):
        return "no permission to read it: check its access rights or the credentials"
    if isinstance(error, IsADirectoryError):
        return "it is a folder, not a file"
    if _http_status(error) in (404, 410):
        return "no such file or folder: it was moved, deleted or misspelt"
    if is_passing(error):
        kind = type(error).__name__
        return f"the store did not answer after several tries ({kind}): check the network and the endpoint, then retry"
    if isinstance(error, OSError) and error.strerror and error.errno is not None:
        return f"it cannot be read ({error.strerror})"
    return f"it cannot be read ({type(error).__name__})"
