"""A file in an object store that is replaced only by who knows what stands there: conditional PUTs, as S3 has them.

RFC 9110, sections 13.1.1 and 13.1.2: `If-None-Match: *` makes a new file, `If-Match` with an ETag replaces that very one.
"""

from typing import Any

from btc_ray.errors import BtcRayError
from btc_ray.storage.files import scheme
from btc_ray.storage.place import Place

_REFUSALS = ("PreconditionFailed", "ConditionalRequestConflict")
_TRIES = 3  # of a request that met another one at the very same time


class ChangedError(BtcRayError):
    """What stands there is not what it was when it was read."""


class ConditionalFile:
    """One file of an S3 store."""

    def __init__(self, place: Place) -> None:
        assert is_conditional(place), str(place)
        self.place = place
        self._fs, path = place.filesystem()
        self._bucket, _, self._key = path.partition("/")

    def read(self) -> tuple[bytes, str] | None:
        """Its bytes and their ETag, or None where there is no file. Raises OSError."""
        from fsspec.asyn import sync

        async def read() -> tuple[bytes, str]:
            answer = await self._fs._call_s3("get_object", Bucket=self._bucket, Key=self._key)
            return await answer["Body"].read(), answer["ETag"]

        try:
            found: tuple[bytes, str] = sync(self._fs.loop, read)
        except FileNotFoundError:
            return None
        return found

    def put(self, data: bytes, *, expected: str | None) -> str:
        """Write `data` where the file has the ETag `expected`, or where there is none; its new ETag.

        `data` has to differ from what others write: a request whose answer was lost is known by it. Raises ChangedError, and OSError.
        """
        condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected}
        for _ in range(_TRIES):
            try:
                answer = self._fs.call_s3("put_object", Bucket=self._bucket, Key=self._key, Body=data, **condition)
            except OSError as error:
                if not _is_refusal(error) and not (expected is not None and isinstance(error, FileNotFoundError)):
                    raise
                found = self.read()
                if found is not None and found[0] == data:
                    return found[1]
                if (found and found[1]) != expected:
                    break
            else:
                return str(answer["ETag"])
        raise ChangedError(f"{self.place} was written by another process")


def is_conditional(place: Place) -> bool:
    """Whether the store of a place has conditional PUTs that are used here: S3 and what speaks its protocol."""
    return scheme(place.uri) in ("s3", "s3a")


def _is_refusal(error: BaseException) -> bool:
    response: Any = getattr(error.__cause__, "response", None) or {}
    return response.get("Error", {}).get("Code") in _REFUSALS
