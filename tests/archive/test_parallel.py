"""A folder that is listed in pieces, wherever they are listed, gives the manifest of one listing."""

import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from ray import cloudpickle

from btc_ray.archive.listing import list_inputs, units_of
from btc_ray.archive.manifest import cut, write_entries
from btc_ray.archive.parallel import write_units
from btc_ray.storage import Place
from tests.archive.samples import tar_bytes, write, zip_bytes


def as_workers_do(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """Everything travels as bytes; what comes later is done earlier."""
    sent = [cloudpickle.dumps((function, item)) for item in items]
    done = {}
    for number in reversed(range(len(sent))):
        called, item = cloudpickle.loads(sent[number])
        done[number] = called(item)
    yield from (done[number] for number in range(len(sent)))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Folders, archives, skipped and broken ones, on several levels."""
    chance = random.Random(3)
    members = [(f"m/{number:02d}.jpg", b"x") for number in range(7)] + [("notes.txt", b""), ("a/IM.0001", b"y")]
    files: dict[str, bytes] = {"0.jpg": b"0", "z.jpg": b"z", "readme.md": b"", "broken.zip": b"broken", "b.jpg/inside.jpg": b"x"}
    for number in range(9):
        files |= {f"site-{number % 3}/p{number}/{at:02d}.jpg": b"x" * chance.randint(1, 9) for at in range(chance.randint(0, 6))}
        files |= {f"site-{number % 3}/{number}.zip": zip_bytes(members), f"tars/{number}.tar": tar_bytes(members[: number + 1])}
    return write(tmp_path / "in", files)


def table(folder: Place) -> pa.Table:
    return pa.concat_tables([part.read_table() for part in folder.files(".parquet")])


@pytest.mark.parametrize("places", [2, 5, 1000])
@pytest.mark.parametrize("sniff", [False, True])
def test_pieces_give_the_manifest_of_one_listing(tmp_path: Path, archive: Path, places: int, sniff: bool) -> None:
    home = Place(str(tmp_path / "out"))
    units = units_of(str(archive), sniff=sniff, places=places)
    assert units is not None
    assert len(units) > 1
    whole = write_entries(
        list_inputs([str(archive)], sniff=sniff), home / "whole", skipped=home / "whole.parquet", rows_per_part=10
    )
    apart = write_units(
        units, home / "apart", skipped=home / "apart.parquet", work=home / "work", spread=as_workers_do, rows_per_part=10
    )
    assert apart is not None
    assert apart.summary() == whole.summary()
    assert apart.sniffed == whole.sniffed
    assert [part.name for part in (home / "apart").files()] == [part.name for part in (home / "whole").files()]
    assert [len(part.read_table()) for part in (home / "apart").files()][:-1] == [10] * (whole.parts - 1)
    assert table(home / "apart").equals(table(home / "whole"))
    assert (home / "apart.parquet").read_table().equals((home / "whole.parquet").read_table())
    assert not (home / "work").exists()


def test_a_glob_is_listed_in_pieces_too(tmp_path: Path, archive: Path) -> None:
    home, pattern = Place(str(tmp_path / "out")), str(archive / "site-*" / "**" / "*.jpg")
    units = units_of(pattern, places=4)
    assert units is not None
    assert write_units(units, home / "apart", skipped=home / "s.parquet", work=home / "work", spread=as_workers_do)
    assert table(home / "apart")["uri"].to_pylist() == [found.uri for found in list_inputs([pattern])]


@pytest.mark.parametrize("linked", ["link", "site-0/p0/link"])
def test_a_folder_that_links_to_folders_is_listed_in_one(tmp_path: Path, archive: Path, linked: str) -> None:
    (archive / linked).parent.mkdir(parents=True, exist_ok=True)
    (archive / linked).symlink_to(archive / "tars")
    home = Place(str(tmp_path / "out"))
    if units := units_of(str(archive), places=2):  # it is met further down, by a worker
        assert write_units(units, home / "apart", skipped=home / "s", work=home / "work", spread=map) is None
    assert not (home / "work").exists()
    assert not (home / "apart").exists()


@pytest.mark.parametrize("name", ["0.jpg", "tars/3.tar", "site-1/p1", "list.txt"])
def test_what_has_no_two_places_in_it_is_listed_in_one(archive: Path, name: str) -> None:
    (archive / "list.txt").write_text("0.jpg\n")
    assert units_of(str(archive / name), places=10) is None


def test_a_cut_takes_every_row_once_in_order() -> None:
    assert cut([4, 0, 3, 5], 5) == [[(0, 0, 4), (2, 0, 1)], [(2, 1, 3), (3, 0, 3)], [(3, 3, 5)]]
    assert cut([], 5) == cut([0], 5) == []
