"""http(s):// with budgets and true reasons: an answer is read no further than its limit, and a refusal is not taken for "no such file"."""

from typing import Any

import aiohttp
from fsspec.implementations.http import HTTPFileSystem

from btc_ray.storage.limits import ANSWER_LIMIT, PAGE_LIMIT
from btc_ray.storage.retries import http_status

_PIECE = 1 << 20  # bytes
_TIMEOUT = aiohttp.ClientTimeout(total=300, sock_connect=30, sock_read=60)  # seconds; a server that drips ends with the first


class AnswerTooLongError(OSError):
    """A server that sends more than an image, a table or a page of links has."""


class _Page(aiohttp.ClientResponse):
    """An answer whose text is read no further than a page of links goes."""

    async def text(self, encoding: str | None = None, errors: str = "strict") -> str:
        data = await _read(self, PAGE_LIMIT, cut=False)
        return data.decode(encoding or self.charset or "utf-8", errors)


class WebFileSystem(HTTPFileSystem):
    """fsspec's, which believes what a server says of its lengths and calls every failed question "not found"."""

    def __init__(self, *args: Any, client_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        client = {"response_class": _Page, "timeout": _TIMEOUT, **(client_kwargs or {})}
        super().__init__(*args, client_kwargs=client, **kwargs)

    async def _info(self, url: str, **kwargs: Any) -> dict[str, Any]:
        try:
            return dict(await super()._info(url, **kwargs))
        except FileNotFoundError as error:
            if error.__cause__ is None or http_status(error.__cause__) in (404, 410):
                raise
            raise error.__cause__ from None

    async def _cat_file(
        self, url: str, start: int | None = None, end: int | None = None, *, limit: int = ANSWER_LIMIT, **kwargs: Any
    ) -> bytes:
        """The bytes of a file or of a part of it; of a server that ignores ranges those from its start to `end`.

        Raises AnswerTooLongError above `limit` bytes, FileNotFoundError, and aiohttp's errors with their HTTP status.
        """
        request = {**self.kwargs, **kwargs}
        if start is not None or end is not None:
            if start == end:
                return b""
            request["headers"] = {**request.get("headers", {}), "Range": await self._process_limits(url, start, end)}
        session = await self.set_session()
        async with session.get(self.encode_url(url), **request) as answer:
            self._raise_not_found_for_status(answer, url)
            if answer.status == 200 and end is not None and end > 0:
                return await _read(answer, end, cut=True)
            asked = end - (start or 0) if end is not None and end > 0 else limit
            return await _read(answer, max(asked, limit), cut=False)


async def _read(answer: aiohttp.ClientResponse, most: int, *, cut: bool) -> bytes:
    """At most `most` bytes; what is beyond is left with `cut`, and an error without."""
    data = bytearray()
    async for piece in answer.content.iter_chunked(_PIECE):
        data += piece
        if len(data) > most:
            answer.close()
            if cut:
                break
            raise AnswerTooLongError(
                f"the server sends more than {most >> 20} MiB, which no image has, and was not heard to its end"
            )
    return bytes(data[:most] if cut else data)
