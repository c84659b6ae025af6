"""Folders, links and strange names on this machine's file system."""

import ast
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from btc_ray.archive.entries import ArchiveError, Entry, Skipped
from btc_ray.archive.listing import list_inputs
from btc_ray.archive.names import DICOM_PROBLEM
from btc_ray.archive.reader import ByteReader
from btc_ray.storage import StorageError
from tests.archive.samples import jpeg, listing, outcomes, rows, write, zip_bytes


def test_a_folder_comes_out_depth_first_and_sorted_by_code_points(tmp_path: Path) -> None:
    names = ["b.jpg", "B.jpg", "a/z.jpg", "a/é.jpg", "a.jpg", "a!/x.jpg", "a/b/c.jpg", "10.jpg", "9.jpg"]
    write(tmp_path, dict.fromkeys(names, b"x"))
    found = [row.uri.removeprefix(f"{tmp_path}/") for row in rows(tmp_path)]
    assert found == ["10.jpg", "9.jpg", "B.jpg", "a/b/c.jpg", "a/z.jpg", "a/é.jpg", "a!/x.jpg", "a.jpg", "b.jpg"]


def test_rows_have_absolute_plain_paths_and_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"in/a.jpg": b"12345"})
    monkeypatch.chdir(tmp_path)
    for given_as in ("in", "./in/", "in/../in", f"file://{tmp_path}/in"):
        (row,) = rows(given_as)
        assert (row.uri, row.size) == (f"{tmp_path}/in/a.jpg", 5)


@pytest.mark.parametrize(
    "name", ["a.jpg", "a.JPG", "a.jpeg", "a.jpe", "a.jfif", "a.png", "a.bmp", "a.dib", "a.tif", "a.TIFF", "a.webp"]
)
def test_images_are_known_by_their_extension(tmp_path: Path, name: str) -> None:
    assert outcomes(write(tmp_path, {name: b"x"})) == {name: "ok"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("notes.csv", "not an image (.csv)"),
        ("scans.zip.001", "one part of an archive that is split over several files; join them and unpack it"),
        ("scans.z02", "one part of an archive that is split over several files; join them and unpack it"),
        ("scans.part1.rar", "one part of an archive that is split over several files; join them and unpack it"),
        ("a.jpg.crdownload", "a download or copy that has not ended (.crdownload)"),
        ("README", "not an image (no known extension)"),
        ("IM.0001", "not an image (no known extension)"),
        ("scan.dcm", "DICOM, which is read with --sniff auto, and by jobs on labelled images with --labels"),
        ("DICOMDIR", "DICOM, which is read with --sniff auto, and by jobs on labelled images with --labels"),
        (".hidden.jpg", "hidden file"),
        (".DS_Store", "macOS leftover"),
        ("._a.jpg", "macOS leftover"),
        ("Thumbs.db", "Windows leftover"),
        ("desktop.ini", "Windows leftover"),
        ("scans.rar", "this kind of archive is not opened (.rar); extract it or use zip"),
        (".jpg", "hidden file"),
    ],
)
def test_what_is_no_image_is_skipped_and_named(tmp_path: Path, name: str, reason: str) -> None:
    write(tmp_path, {name: b"x", "ok.jpg": b"x"})
    assert outcomes(tmp_path) == {name: f"skipped: {reason}", "ok.jpg": "ok"}


@pytest.mark.parametrize(("folder", "reason"), [(".cache", "hidden folder"), ("__MACOSX", "macOS leftover")])
def test_hidden_folders_are_not_entered_but_counted(tmp_path: Path, folder: str, reason: str) -> None:
    write(tmp_path, {f"{folder}/a.jpg": b"x", "ok.jpg": b"x"})
    assert outcomes(tmp_path) == {folder: f"skipped: {reason}", "ok.jpg": "ok"}


@pytest.mark.parametrize(
    "name",
    [
        "a b.jpg",
        "ä→脳.jpg",
        "new\nline.jpg",
        "a#b.jpg",
        "a?b.jpg",
        "a*b.jpg",
        "a[1].jpg",
        "x.zip::y.jpg",
        "%41.jpg",
        "~.jpg",
        "'\".jpg",
        "f*/a[!].jpg",
    ],
)
def test_strange_names_are_rows_and_can_be_read(tmp_path: Path, name: str) -> None:
    write(tmp_path, {name: b"content", "AAA.jpg": b"other"})
    row = next(row for row in rows(tmp_path) if row.uri == f"{tmp_path}/{name}")
    assert ByteReader().read(uri=row.uri) == b"content"
    assert [row.uri for row in rows(tmp_path / name)] == [f"{tmp_path}/{name}"]  # named itself it is that file, no pattern


def test_a_name_that_is_not_utf8_is_an_unsupported_row(tmp_path: Path) -> None:
    for place in (b"caf\xe9.jpg", b"dos\xe9/a.jpg"):
        path = os.fsencode(tmp_path) + b"/" + place
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 — pathlib takes no bytes
        with open(path, "wb") as file:  # noqa: PTH123
            file.write(b"x")
    problem = "unsupported: the file name is not valid UTF-8; rename the file or its folder"
    assert outcomes(tmp_path) == {"caf\\xe9.jpg": problem, "dos\\xe9/a.jpg": problem}


def test_a_folder_named_like_an_image_is_entered(tmp_path: Path) -> None:
    assert outcomes(write(tmp_path, {"x.jpg/y.jpg": b"x", "x.zip/z.jpg": b"x"})) == {"x.jpg/y.jpg": "ok", "x.zip/z.jpg": "ok"}


def test_links_are_followed_and_loops_and_broken_ones_are_told(tmp_path: Path) -> None:
    write(tmp_path, {"real/a.jpg": b"x"})
    (tmp_path / "linked").symlink_to("real")
    (tmp_path / "linked.jpg").symlink_to("real/a.jpg")
    (tmp_path / "real/up").symlink_to("..")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "gone.txt").symlink_to("nowhere.txt")
    assert outcomes(tmp_path) == {
        "gone.jpg": "failed: broken link: what it points to is gone",
        "gone.txt": "skipped: broken link: what it points to is gone",
        "linked/a.jpg": "ok",
        "linked/up": "skipped: symlink loop",
        "linked.jpg": "ok",
        "real/a.jpg": "ok",
        "real/up": "skipped: symlink loop",
        "self.jpg": "skipped: symlink loop",
    }


@pytest.mark.timeout(20)
def test_pipes_and_sockets_are_skipped_without_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"ok.jpg": b"x"})
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe.zip")
    monkeypatch.chdir(tmp_path)  # the address of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.jpg")
        assert outcomes(tmp_path) == {
            "ok.jpg": "ok",
            "pipe.jpg": "skipped: not a regular file (a named pipe)",
            "pipe.zip": "skipped: not a regular file (a named pipe)",
            "s.jpg": "skipped: not a regular file (a socket)",
        }
    assert (
        outcomes(tmp_path, tmp_path / "pipe.jpg", tmp_path / "ok.jpg")["pipe.jpg"] == "failed: not a regular file (a named pipe)"
    )


def test_a_folder_that_cannot_be_listed_is_a_failed_row(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may list every folder")
    write(tmp_path, {"closed/a.jpg": b"x", "ok.jpg": b"x"})
    (tmp_path / "closed").chmod(0)
    try:
        found = outcomes(tmp_path)
    finally:
        (tmp_path / "closed").chmod(0o755)
    assert found["closed"].startswith("failed: the folder cannot be listed: no permission")


def test_a_folder_that_vanishes_while_listing_is_a_failed_row(tmp_path: Path) -> None:
    # More folders than the read-ahead opens; the generator stops between two of them.
    write(tmp_path, {f"{number:03d}/a.jpg": b"x" for number in range(50)})
    stream = list_inputs([str(tmp_path)], threads=1)
    next(stream)
    (tmp_path / "049/a.jpg").unlink()
    (tmp_path / "049").rmdir()
    *_, last = stream
    assert last.uri == f"{tmp_path}/049"
    assert last.problem_status == "failed"  # type: ignore[union-attr]


def test_a_file_named_by_a_person_is_a_row_whatever_its_extension(tmp_path: Path) -> None:
    write(tmp_path, {"scan.dat": b"x", ".hidden": b"x", "scan.dcm": b"x"})
    found = outcomes(tmp_path, *(tmp_path / name for name in ("scan.dat", ".hidden", "scan.dcm")))
    assert found == {"scan.dat": "ok", ".hidden": "ok", "scan.dcm": f"unsupported: {DICOM_PROBLEM}"}


def test_a_loose_file_above_the_limit_is_an_unsupported_row(tmp_path: Path) -> None:
    write(tmp_path, {"big.jpg": b"x" * 101, "fits.jpg": b"x" * 100})
    assert outcomes(tmp_path, size_limit=100) == {
        "big.jpg": "unsupported: larger than 100 bytes, which no image is",
        "fits.jpg": "ok",
    }


@pytest.mark.parametrize(
    "inputs", [["missing"], ["there", "missing"], ["there", "no/*.jpg"], ["there", "missing.zip::a.jpg"], ["there", "missing*"]]
)
def test_an_input_that_does_not_exist_is_named(tmp_path: Path, inputs: list[str]) -> None:
    write(tmp_path, {"there/a.jpg": b"x"})
    with pytest.raises(ArchiveError, match=r"(missing|no/\*\.jpg)"):
        listing(*(tmp_path / name for name in inputs))


def test_inputs_without_any_image_are_refused_with_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArchiveError, match=r"no image was found in .*empty.*an empty folder"):
        listing(tmp_path / "empty")
    write(tmp_path, {"tables/a.csv": b"x", "tables/b.csv": b"x"})
    with pytest.raises(ArchiveError, match=r"2 × not an image \(\.csv\)"):
        listing(tmp_path / "tables")
    with pytest.raises(ArchiveError, match="no input"):
        listing()
    with pytest.raises(StorageError, match="empty path"):
        listing("")


def test_an_empty_folder_beside_a_full_one_is_counted(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path, {"full/a.jpg": b"x"})
    assert outcomes(tmp_path, tmp_path / "empty", tmp_path / "full") == {
        "empty": "skipped: an empty folder or list was given",
        "full/a.jpg": "ok",
    }


def test_overlapping_inputs_give_each_file_once_and_count_the_rest(tmp_path: Path) -> None:
    write(tmp_path, {"a/1.jpg": b"x", "b/2.jpg": b"x"})
    found = [
        (item.uri.removeprefix(f"{tmp_path}/"), getattr(item, "reason", None))
        for item in listing(tmp_path / "b", tmp_path, tmp_path / "a/1.jpg")
    ]
    assert found == [("b/2.jpg", None), ("a/1.jpg", None), ("b/2.jpg", "named twice"), ("a/1.jpg", "named twice")]


names = st.text(st.sampled_from("abAB01.é脳 #*[]::-~"), min_size=1, max_size=6).filter(
    lambda name: name.strip(".") and len(name.encode()) < 100
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(paths=st.sets(st.lists(names, min_size=1, max_size=4).map("/".join), min_size=1, max_size=12), threads=st.integers(1, 8))
def test_listing_twice_gives_the_same_order_whatever_the_threads(
    tmp_path_factory: pytest.TempPathFactory, paths: set[str], threads: int
) -> None:
    folder = write(tmp_path_factory.mktemp("tree"), {"z.jpg": b"x"} | {f"{path}/leaf.jpg": jpeg(0)[:9] for path in paths})
    first = listing(folder, threads=threads)
    assert first == listing(folder, threads=1)
    assert sum(getattr(item, "size", None) is not None for item in first) + sum(hasattr(item, "reason") for item in first) == len(
        first
    )


def without_rights(script: str, *arguments: str) -> str:
    """The output of Python code run by someone who may not open everything, as root may."""
    caps = "-dac_override,-dac_read_search"
    before = ["setpriv", f"--inh-caps={caps}", f"--bounding-set={caps}"] if os.geteuid() == 0 else []
    return subprocess.run([*before, sys.executable, "-c", script, *arguments], check=True, capture_output=True, text=True).stdout


OUTCOMES = "import sys; from tests.archive.samples import outcomes; print(outcomes(sys.argv[1]))"


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root may list every folder")
@pytest.mark.parametrize(
    ("mode", "lost"),
    [
        (0o000, {"2023/closed": "failed: the folder cannot be listed: no permission to read it"}),
        (0o300, {"2023/closed": "failed: the folder cannot be listed: no permission to read it"}),  # may be entered, not listed
        (  # may be listed, and nothing in it asked about
            0o400,
            {
                "2023/closed/a.jpg": "ok",  # reading it tells
                "2023/closed/deep": "failed: the folder cannot be listed: no permission to read it",
                "2023/closed/note.txt": "skipped: not an image (.txt)",
            },
        ),
    ],
)
def test_a_closed_folder_is_a_row_and_what_stands_beside_it_is_listed(tmp_path: Path, mode: int, lost: dict[str, str]) -> None:
    write(tmp_path, {"2023/closed/deep/b.jpg": b"x", "2023/closed/a.jpg": b"x", "2023/closed/note.txt": b"x", "2024/c.jpg": b"x"})
    if os.geteuid() == 0:
        for folder in (tmp_path / "2023/closed/deep", tmp_path / "2023/closed"):
            os.chown(folder, 0, 0)
    (tmp_path / "2023/closed").chmod(mode)
    try:
        found = ast.literal_eval(without_rights(OUTCOMES, str(tmp_path)))
    finally:
        (tmp_path / "2023/closed").chmod(0o755)
    assert found.pop("2024/c.jpg") == "ok"
    assert {name: outcome.partition(":")[0] for name, outcome in found.items()} == {
        name: outcome.partition(":")[0] for name, outcome in lost.items()
    }
    assert all(found[name].startswith(outcome) for name, outcome in lost.items())


def test_a_path_too_long_to_be_asked_about_is_a_row(tmp_path: Path) -> None:
    """Tools that change into each folder make trees whose whole path no system call takes."""
    write(tmp_path, {"in/ok.jpg": b"x"})
    here = os.open(tmp_path / "in", os.O_RDONLY)
    for _ in range(25):
        os.mkdir("d" * 200, dir_fd=here)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    try:
        deep, loose = rows(tmp_path / "in")
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / "in")], check=True)
    assert (deep.problem_status, deep.problem) == (
        "failed",
        "the folder cannot be listed: it cannot be read (File name too long)",
    )
    assert loose.uri.endswith("/ok.jpg")


@pytest.mark.parametrize(
    "folder",
    [
        "@eaDir",
        "@EADIR",
        "#recycle",
        "@Recycle",
        "$RECYCLE.BIN",
        "$Recycle.Bin",
        "RECYCLER",
        "#snapshot",
        "~snapshot",
        "lost+found",
        "System Volume Information",
        "@GMT-2024.01.31-00.00.00",
        ".Trash-1000",
        ".Trashes",
        ".snapshot",
        "@Recently-Snapshot",
    ],
)
def test_what_servers_and_systems_leave_behind_is_counted_and_no_image(tmp_path: Path, folder: str) -> None:
    write(tmp_path, {f"2024/{folder}/x/thumb.jpg": b"x", "2024/a.jpg": b"x"})
    (tmp_path / "x.zip").write_bytes(zip_bytes([(f"{folder}/a.jpg", b"x"), ("b.jpg", b"x")]))
    found = outcomes(tmp_path)
    assert [name for name, outcome in found.items() if outcome == "ok"] == ["2024/a.jpg", "x.zip::b.jpg"]
    assert found[f"2024/{folder}"] == found[f"x.zip::{folder}/a.jpg"]
    assert found[f"2024/{folder}"].startswith("skipped: ")
    assert outcomes(tmp_path / "2024" / folder) == {"x/thumb.jpg": "ok"}  # named by a person, it is read


def linked_out(tmp_path: Path) -> Path:
    write(tmp_path, {"in/a.jpg": b"x", "out/b.jpg": b"x", "out/deep/c.jpg": b"x", "secret": b"root:*:1"})
    (tmp_path / "in/b.jpg").symlink_to("../out/b.jpg")
    (tmp_path / "in/folder").symlink_to(tmp_path / "out")
    (tmp_path / "in/shadow.jpg").symlink_to("../secret")
    (tmp_path / "in/inner.jpg").symlink_to("../in/a.jpg")
    return tmp_path / "in"


def test_links_out_of_the_input_folder_are_counted_and_followed_only_when_asked(tmp_path: Path) -> None:
    folder = linked_out(tmp_path)
    left = "skipped: a link that leads out of the input folder is not followed (to follow such links: --follow-links)"
    assert outcomes(folder) == {"a.jpg": "ok", "b.jpg": left, "folder": left, "inner.jpg": "ok", "shadow.jpg": left}
    assert list(outcomes(folder, follow_links=True)) == [
        "a.jpg",
        "b.jpg",
        "folder/b.jpg",
        "folder/deep/c.jpg",
        "inner.jpg",
        "shadow.jpg",
    ]


def test_links_out_are_counted_under_a_glob_and_what_is_named_itself_may_be_a_link(tmp_path: Path) -> None:
    folder = linked_out(tmp_path)
    assert [item.uri.removeprefix(f"{folder}/") for item in listing(f"{folder}/**/*.jpg") if isinstance(item, Skipped)] == [
        "b.jpg",
        "folder",
        "shadow.jpg",
    ]
    assert outcomes(folder / "folder") == {"b.jpg": "ok", "deep/c.jpg": "ok"}
    assert outcomes(folder, folder / "b.jpg") == {"b.jpg": "ok"}


@pytest.mark.timeout(20)
def test_folders_that_link_to_each_other_are_each_read_a_bounded_number_of_times(tmp_path: Path) -> None:
    write(tmp_path, {f"{level:02d}/note.txt": b"x" for level in range(24)} | {"24/a.jpg": b"x"})
    for level in range(24):
        for name in ("x", "y"):
            (tmp_path / f"{level:02d}/{name}").symlink_to(f"../{level + 1:02d}")
    found = listing(tmp_path)
    assert listing(tmp_path, threads=1) == found
    assert sum(isinstance(item, Entry) for item in found) == 2  # by its own name, and once by links
    again = [item for item in found if isinstance(item, Skipped) and item.reason == "a folder that another link led to already"]
    assert (
        len(again) == 2 * (24 + 23) - 24
    )  # two links in each folder with links, entered twice but for the first; 24 were followed
