"""Places: how they are named, written and moved."""

import json
import pickle
from pathlib import Path

import pytest

from btc_ray.storage import Place, StorageError

SECRET = "Zm9vYmFyL3NlY3JldA"


def test_a_place_names_itself_without_credentials_and_its_options_never() -> None:
    place = Place(f"https://user:{SECRET}@host/a.jpg?token={SECRET}", {"secret": SECRET})
    assert str(place) == "https://***@host/a.jpg?token=***"
    assert SECRET not in f"{place!s} {place.options.keys()}"
    assert SECRET not in repr(Place("s3://bucket/a", {"secret": SECRET}))


@pytest.mark.parametrize(
    ("uri", "name", "below"),
    [
        ("/a/b", "b", "/a/b/c"),
        ("/a/b/", "b", "/a/b/c"),
        ("s3://bucket", "bucket", "s3://bucket/c"),
        ("a::b", "a::b", "a::b/c"),
        ("/a/#?% é", "#?% é", "/a/#?% é/c"),
    ],
)
def test_what_stands_below_a_place_has_its_options(uri: str, name: str, below: str) -> None:
    place = Place(uri, {"key": "value"})
    assert place.name == name
    assert (place / "c") == Place(below, {"key": "value"})
    assert pickle.loads(pickle.dumps(place)) == place


@pytest.mark.parametrize(("uri", "beside"), [("/a/b", "/a/x"), ("b", "x"), ("s3://bucket/a/", "s3://bucket/x")])
def test_what_stands_beside_a_place(uri: str, beside: str) -> None:
    assert Place(uri).beside("x").uri == beside


def test_a_record_is_written_whole_and_without_credentials(tmp_path: Path) -> None:
    place = Place(str(tmp_path / "deep" / "record.json"))
    place.write_json(
        {"uri": f"https://h/a?sig={SECRET}", "list": [(f"https://{SECRET}@h/", 1.5)], "picture": "data:image/png;base64,QQ"}
    )
    assert json.loads(place.read()) == {
        "uri": "https://h/a?sig=***",
        "list": [["https://***@h/", 1.5]],
        "picture": "data:image/png;base64,QQ",
    }
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["record.json"]
    with pytest.raises(ValueError, match="JSON"):
        place.write_json({"loss": float("nan")})


def test_a_file_is_moved_over_what_stood_there(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Place(str(tmp_path / name)).write(name.encode())
    Place(str(tmp_path / "a")).move(Place(str(tmp_path / "b")))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"a"]


def test_a_place_elsewhere_has_no_path_here() -> None:
    with pytest.raises(StorageError, match="not a path on this machine"):
        Place("s3://bucket/a").path()
