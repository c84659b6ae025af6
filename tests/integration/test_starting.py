"""A Ray that starts on this machine is there before its agents are: it does not wait for them, however busy the machine is."""

import os

import psutil
import pytest

from btc_ray.workers.starting import AGENT_PORTS, free_ports


@pytest.mark.ray
def test_the_node_is_told_the_ports_of_its_agents_and_so_waits_for_neither(ray_here: None) -> None:
    nodes = [each for each in psutil.Process(os.getpid()).children() if each.name() == "raylet"]
    assert len(nodes) == 1
    flags = dict(word.lstrip("-").replace("-", "_").split("=", 1) for word in nodes[0].cmdline()[1:] if word.count("=") == 1)
    ports = [int(flags[name]) for name in AGENT_PORTS]
    assert all(ports), "a port that is 0 is chosen by an agent, and waited for"
    assert len(set(ports)) == len(AGENT_PORTS)


def test_free_ports_are_different_ones() -> None:
    assert len(set(free_ports(20))) == 20
