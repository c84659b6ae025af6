"""S3 with one policy for second tries, ours, under everything that reads or writes: pyarrow, Ray Data and Ray Train as well."""

from functools import partial
from typing import Any

from fsspec.asyn import sync_wrapper
from s3fs import S3FileSystem  # type: ignore[import-untyped]

from btc_ray.storage.retries import expect_answers, retrying_async


class PatientS3(S3FileSystem):
    """s3fs tries by count and botocore within each of its tries, which comes to 25 requests in a few seconds and no patience.

    Folders are listed anew each time: what other processes wrote must be seen.
    """

    retries = 3  # of a body that breaks off while a file is read; s3fs asks for it again at once

    def __init__(
        self, *args: Any, config_kwargs: dict[str, Any] | None = None, use_listings_cache: bool = False, **kwargs: Any
    ) -> None:
        config = {"retries": {"max_attempts": 0}, **(config_kwargs or {})}
        super().__init__(*args, config_kwargs=config, use_listings_cache=use_listings_cache, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return _in_another_process, super().__reduce__()

    async def _call_s3(self, *args: Any, **kwargs: Any) -> Any:
        return await retrying_async(partial(super()._call_s3, *args, **kwargs))

    call_s3 = sync_wrapper(_call_s3)

    async def _cat_file(self, *args: Any, **kwargs: Any) -> bytes:
        return bytes(await retrying_async(partial(super()._cat_file, *args, **kwargs)))


def _in_another_process(make: Any, arguments: tuple[Any, ...], *state: Any) -> PatientS3:
    """A file system that was sent to a worker belongs to a run under way."""
    expect_answers()
    made: PatientS3 = make(*arguments)
    return made
