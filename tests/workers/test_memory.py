"""Memory is what the container leaves, where it has a limit."""

from pathlib import Path

import pytest

from btc_ray.workers.memory import free_memory


@pytest.mark.parametrize(
    ("files", "free", "limit"),
    [
        ({"memory.max": "1073741824\n", "memory.current": "73741824\n"}, 1_000_000_000, 1 << 30),
        ({"memory.max": "1000\n", "memory.current": "2000\n"}, 0, 1000),
        ({"memory/memory.limit_in_bytes": "1073741824\n", "memory/memory.usage_in_bytes": "73741824\n"}, 1_000_000_000, 1 << 30),
    ],
)
def test_a_limit_of_the_container_binds(files: dict[str, str], free: int, limit: int, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert free_memory(tmp_path) == (free, limit)


@pytest.mark.parametrize("text", ["max\n", "9223372036854771712\n", ""])
def test_no_limit_leaves_the_machines_memory(text: str, tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text(text)
    (tmp_path / "memory.current").write_text("0\n")
    free, limit = free_memory(tmp_path)
    assert limit is None
    assert 1 << 20 < free < 1 << 50
