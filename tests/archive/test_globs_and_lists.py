"""Patterns, and lists of URIs."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from btc_ray.archive.entries import ArchiveError
from tests.archive.samples import listing, outcomes, rows, write, zip_bytes

TREE = ["a/1.jpg", "a/2.png", "a/deep/er/3.jpg", "a/note.txt", "b/1.jpg", "b/.h/4.jpg", "c1.jpg", "c[1].jpg", "d.jpg/5.jpg"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["c1.jpg", "c[1].jpg", "d.jpg/5.jpg"]),
        ("*/1.jpg", ["a/1.jpg", "b/1.jpg"]),
        ("a/*", ["a/1.jpg", "a/2.png", "a/deep/er/3.jpg"]),
        ("**/*.jpg", ["a/1.jpg", "a/deep/er/3.jpg", "b/1.jpg", "c1.jpg", "c[1].jpg", "d.jpg/5.jpg"]),
        ("a/**", ["a/1.jpg", "a/2.png", "a/deep/er/3.jpg"]),
        ("a/**/3.jpg", ["a/deep/er/3.jpg"]),
        ("**/**/3.jpg", ["a/deep/er/3.jpg"]),
        ("[ab]/?.jpg", ["a/1.jpg", "b/1.jpg"]),
        ("c[1].jpg", ["c[1].jpg"]),
        ("c[0-9].jpg", ["c1.jpg"]),
    ],
)
def test_a_glob_matches_name_by_name(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    write(tmp_path, dict.fromkeys(TREE, b"x"))
    assert [row.uri.removeprefix(f"{tmp_path}/") for row in rows(f"{tmp_path}/{pattern}")] == expected


def test_a_glob_counts_only_what_it_matches(tmp_path: Path) -> None:
    write(tmp_path, dict.fromkeys(TREE, b"x"))
    assert outcomes(tmp_path, f"{tmp_path}/a/?*") == {
        "a/1.jpg": "ok",
        "a/2.png": "ok",
        "a/deep/er/3.jpg": "ok",
        "a/note.txt": "skipped: not an image (.txt)",
    }


def test_a_glob_without_a_match_is_refused_even_beside_other_inputs(tmp_path: Path) -> None:
    write(tmp_path, dict.fromkeys(TREE, b"x"))
    with pytest.raises(ArchiveError, match=r"\*\.JPG matches nothing"):
        listing(tmp_path / "a", f"{tmp_path}/a/*.JPG")


def test_a_glob_opens_the_archives_it_matches(tmp_path: Path) -> None:
    write(tmp_path, {"x/1.zip": zip_bytes([("a.jpg", b"x")]), "x/2.jpg": b"x"})
    assert outcomes(tmp_path, f"{tmp_path}/*/*.zip") == {"x/1.zip::a.jpg": "ok"}


def test_a_text_list_names_files_folders_archives_and_members(tmp_path: Path) -> None:
    archive = zip_bytes([("a.jpg", b"x"), ("b.jpg", b"x"), ("deep/c.dat", b"x")])
    write(tmp_path, {"in/1.jpg": b"x", "in/2.dat": b"x", "f/3.jpg": b"x", "z.zip": archive, "w.zip": archive, "in/#4.jpg": b"x"})
    lines = ["\ufeff# a comment", "", "in/1.jpg", "  in/2.dat ", f"{tmp_path}/f", "z.zip::b.jpg", "w.zip", "z.zip::deep/c.dat"]
    lines += ["in/missing.jpg", "z.zip::missing.jpg", "in/#4.jpg", "in/../in/1.jpg", "none.zip::a.jpg"]
    (tmp_path / "list.txt").write_bytes("\r\n".join(lines).encode())
    gone = "failed: no such file or folder: it was moved, deleted or misspelt"
    found = outcomes(tmp_path, tmp_path / "list.txt")
    assert list(found.items()) == [
        ("in/1.jpg", "skipped: named twice"),  # the later of two; its place in this mapping is the first one's
        ("in/2.dat", "ok"),
        ("f/3.jpg", "ok"),
        ("z.zip::b.jpg", "ok"),
        ("w.zip::a.jpg", "ok"),
        ("w.zip::b.jpg", "ok"),
        ("w.zip::deep/c.dat", "skipped: not an image (.dat)"),
        ("z.zip::deep/c.dat", "ok"),
        ("in/missing.jpg", gone),
        ("z.zip::missing.jpg", "failed: the archive has no member of this name"),
        ("in/#4.jpg", "ok"),
        ("none.zip::a.jpg", "failed: the archive cannot be opened: no such file or folder: it was moved, deleted or misspelt"),
    ]


def test_csv_and_parquet_lists_are_read_by_their_column_uri(tmp_path: Path) -> None:
    write(tmp_path, {"1.jpg": b"x", "a,b.jpg": b"x"})
    (tmp_path / "list.csv").write_text('label,uri\nx,1.jpg\ny,"a,b.jpg"\nz,\n')
    pq.write_table(pa.table({"uri": ["1.jpg", "a,b.jpg", None], "label": ["x", "y", "z"]}), tmp_path / "list.parquet")
    for name, where in (("list.csv", "line 4"), ("list.parquet", "row 2")):
        assert outcomes(tmp_path, tmp_path / name) == {
            "1.jpg": "ok",
            "a,b.jpg": "ok",
            f"{name}, {where}": "skipped: an entry of a list is empty",
        }


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("list.csv", b"path,label\na,b\n", "no column 'uri' .it has: path, label"),
        ("list.csv", b"", "no column 'uri'"),
        ("list.parquet", b"not parquet", "list.parquet is damaged"),
        ("list.txt", b"\xff\xfe\x00", "not UTF-8"),
        ("list.txt", b"# nothing\n", "no image was found"),
    ],
)
def test_a_list_that_cannot_be_used_says_why(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    write(tmp_path, {name: data})
    with pytest.raises(ArchiveError, match=message):
        listing(tmp_path / name)


def test_a_member_can_be_named_as_an_input(tmp_path: Path) -> None:
    write(tmp_path, {"z.zip": zip_bytes([("a/b.jpg", b"x"), ("c.jpg", b"x")])})
    assert outcomes(tmp_path, f"{tmp_path}/z.zip::a/b.jpg") == {"z.zip::a/b.jpg": "ok"}
