"""A function called for each of some items, on workers: what a driver would else do one after the other.

Only jobs that use Ray load this module.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import ray

from btc_ray.storage.retries import expect_answers

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_AHEAD = 2  # tasks a core that are asked for before the first is done


def spread(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """`function` of each item, in the order of the items, each call a task of one core. Needs a Ray that is joined.

    A task that is lost with its worker or node is done again by Ray, so `function` may be called twice for an item. Raises what it raises.
    """
    task = ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(_answering)
    at_once = _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
    under_way: deque[Any] = deque()
    for item in items:
        if len(under_way) >= at_once:
            yield _result(under_way.popleft())
        under_way.append(task.remote(function, item))
    while under_way:
        yield _result(under_way.popleft())


def _answering(function: Callable[[_Item], _Result], item: _Item) -> _Result:
    expect_answers()  # the driver has been there: a store that is down now is waited for
    return function(item)


def _result(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from None
        raise
