"""What is changed of Ray's own start (Ray 2.60) while a Ray starts on this machine: it asks no cloud, and waits for no agent.

Should Ray name these things otherwise one day, a test that listens and one that looks at the node's ports say so.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

AGENT_PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
"""Arguments of `ray._private.services.start_raylet`, and flags of the node's program."""


@contextmanager
def asks_no_cloud() -> Iterator[list[Any]]:
    """While a Ray starts here: its dashboard, which starts even where none is wanted, does not ask two addresses on the network which
    cloud this is, as it does though usage reports are off.

    It asks where it finds no cluster's configuration in the home folder, and not where there can be no such file. Gives the list of the
    processes begun so far, as Ray records them.
    """
    from ray._private import services

    start = services.start_ray_process
    begun: list[Any] = []

    def started(command: list[str], process_type: str, *arguments: Any, **named: Any) -> Any:
        if process_type == "dashboard":
            named["env_updates"] = {**(named.get("env_updates") or {}), "HOME": os.devnull}
        process = start(command, process_type, *arguments, **named)
        begun.append(process)
        return process

    services.start_ray_process = started
    try:
        yield begun
    finally:
        services.start_ray_process = start


@contextmanager
def waits_for_no_agent() -> Iterator[None]:
    """While a Ray starts here: its node takes work before the two Python processes beside it, its agents, are there.

    Ray lets them choose their ports, and the node waits until both have imported what they need and have written the ports down. On
    a busy machine that takes too long: the node ends itself, and no Ray starts. Ports that are chosen here need no waiting.
    """
    from ray._private import services

    start_node = services.start_raylet

    def node_started(*arguments: Any, **named: Any) -> Any:
        ports = dict(zip(AGENT_PORTS, free_ports(len(AGENT_PORTS)), strict=True))

        def started(command: list[str], process_type: str, *more: Any, **named: Any) -> Any:
            if process_type == "raylet":  # which is told all ports but this one
                command = [*command, f"--dashboard_agent_listen_port={ports['dashboard_agent_listen_port']}"]
            return before(command, process_type, *more, **named)

        before, services.start_ray_process = services.start_ray_process, started
        try:
            return start_node(*arguments, **(named | ports))
        finally:
            services.start_ray_process = before

    services.start_raylet = node_started
    try:
        yield
    finally:
        services.start_raylet = start_node


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on, no two the same."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
