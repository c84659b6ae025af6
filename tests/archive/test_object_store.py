"""The same answers from an object store: a real S3 protocol, served by this machine."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from btc_ray import storage
from btc_ray.archive.entries import ArchiveError, ReadError
from btc_ray.archive.reader import ByteReader
from btc_ray.storage import Place
from tests.archive.samples import jpeg, outcomes, rows, summarise, tar_bytes, write, write_manifest, zip_bytes
from tests.archive.test_zips import fields
from tests.conftest import Bucket

pytestmark = pytest.mark.slow

MEMBERS = [("a.jpg", jpeg(1)), ("d/b.jpg", jpeg(2) * 40), ("note.txt", b"x"), ("../c.jpg", b"x")]
FILES = {
    "b.jpg": b"1",
    "B.jpg": b"2",
    "a/z.jpg": b"3",
    "a/é.jpg": b"4",
    "a.jpg": b"5",
    "a!/x.jpg": b"6",
    "a/b/c.jpg": b"7",
    "x.jpg/y.jpg": b"8",
    "sp ace/#[1]?*::.jpg": b"9",
    "%41.jpg": b"10",
    ".hidden/a.jpg": b"11",
    "n.csv": b"12",
    "m.zip": zip_bytes(MEMBERS),
    "m.tar": tar_bytes(MEMBERS),
    "m.tgz": tar_bytes(MEMBERS, "gz"),
    "broken.zip": b"no zip",
    "cut.tar": tar_bytes(MEMBERS)[:2000],
}


@pytest.fixture
def filled(bucket: Bucket) -> Bucket:
    for key, data in FILES.items():
        bucket.put(f"in/{key}", data)
    return bucket


@pytest.mark.parametrize("tail", ["", "/**/*.jpg", "/a*/*.jpg", "/*.zip"])
def test_s3_and_a_folder_give_the_same_rows_in_the_same_order(tmp_path: Path, filled: Bucket, tail: str) -> None:
    write(tmp_path / "in", FILES)
    local = outcomes(tmp_path / "in", f"{tmp_path}/in{tail}")
    remote = outcomes(f"{filled.uri}/in", f"{filled.uri}/in{tail}", options=filled.options)
    assert list(remote.items()) == list(local.items())
    sizes = [row.size for row in rows(f"{filled.uri}/in{tail}", options=filled.options)]
    assert sizes == [row.size for row in rows(f"{tmp_path}/in{tail}")]


def test_rows_of_every_packing_are_read_by_range_from_s3(tmp_path: Path, filled: Bucket) -> None:
    write(tmp_path / "in", FILES)
    local = ByteReader().read_many([fields(row) for row in rows(tmp_path / "in")])
    reader = ByteReader(filled.options)
    remote = reader.read_many([fields(row) for row in rows(f"{filled.uri}/in", options=filled.options)], threads=4)
    assert [str(data) if isinstance(data, ReadError) else data for data in remote] == [
        str(data) if isinstance(data, ReadError) else data for data in local
    ]


def test_a_manifest_is_written_to_s3_and_an_unfinished_longer_one_is_replaced(filled: Bucket) -> None:
    to = f"{filled.uri}/run/manifest"
    filled.put("run/manifest/part-00099.parquet", b"left over")
    filled.put("run/run.json", b"not ours")
    skipped = f"{filled.uri}/run/skipped.parquet"
    summary = write_manifest(
        [f"{filled.uri}/in"],
        Place(to, filled.options),
        skipped=Place(skipped, filled.options),
        rows_per_part=8,
    )
    parts = storage.list_files(to, ".parquet", filled.options)
    fs, _ = storage.filesystem(to, filled.options)
    tables = [pq.read_table(fs.open(part)) for part in parts]
    assert len(parts) == summary.parts
    assert [row for table in tables for row in table["row_id"].to_pylist()] == list(range(summary.rows))
    assert pq.read_table(fs.open(skipped)).num_rows == sum(tally.count for tally in summary.skipped.values())
    assert storage.exists(f"{filled.uri}/run/run.json", filled.options)
    whole = write_manifest(
        [f"{filled.uri}/in"], Place(f"{filled.uri}/other/manifest", filled.options), skipped=Place(skipped, filled.options)
    )
    assert summarise([f"{filled.uri}/in"], options=filled.options).fingerprint == whole.fingerprint


def test_lists_may_stand_on_s3_and_name_things_relative_to_it(filled: Bucket) -> None:
    lines = ["in/b.jpg", f"{filled.uri}/in/a", "in/m.zip::d/b.jpg", "in/gone.dat", "in/n.csv", "in/../in/a.jpg"]
    filled.put("list.txt", "\n".join(lines).encode())
    assert outcomes(filled.uri, f"{filled.uri}/list.txt", options=filled.options) == {
        "in/b.jpg": "ok",
        "in/a/b/c.jpg": "ok",
        "in/a/z.jpg": "ok",
        "in/a/é.jpg": "ok",
        "in/m.zip::d/b.jpg": "ok",
        "in/gone.dat": "failed: no such file or folder: it was moved, deleted or misspelt",
        "in/n.csv": "ok",
        "in/a.jpg": "ok",
    }


def test_keys_with_an_empty_folder_name_and_placeholders_are_told(bucket: Bucket) -> None:
    fs, _ = storage.filesystem(bucket.uri, bucket.options)
    bucket.put("in/a.jpg", b"x")
    bucket.put("in//lost.jpg", b"x")
    fs.touch(f"{bucket.uri}/in/placeholder/")
    assert outcomes(bucket.uri, f"{bucket.uri}/in/", options=bucket.options) == {
        "in//": "unsupported: keys with an empty folder name (//) cannot be listed; rename them",
        "in/a.jpg": "ok",
    }


def test_what_is_gone_or_forbidden_on_s3_is_a_failed_row_and_names_no_secret(filled: Bucket) -> None:
    for uri in (f"{filled.uri}/in/gone.jpg", "s3://no-such-bucket-here/a.jpg"):
        with pytest.raises(ReadError, match="no such file") as caught:
            ByteReader(filled.options).read(uri=uri)
        assert caught.value.status == "failed"
        assert filled.options["secret"] not in str(caught.value)
    with pytest.raises(ArchiveError, match="does not exist"):
        rows(f"{filled.uri}/nowhere", options=filled.options)


def test_an_archive_replaced_on_s3_is_noticed(filled: Bucket) -> None:
    found = rows(f"{filled.uri}/in/m.zip", options=filled.options)
    filled.put("in/m.zip", zip_bytes([("other.jpg", b"x")] * 1))
    with pytest.raises(ReadError, match="changed since"):
        ByteReader(filled.options).read(fields(found[0]))


def test_an_endpoint_that_does_not_answer_is_a_failed_row(filled: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("btc_ray.storage.retries.PATIENCE_S", 0.5)
    options = {**filled.options, "endpoint_url": "http://127.0.0.1:9"}
    with pytest.raises(ReadError, match="did not answer after several tries") as caught:
        ByteReader(options).read(uri=f"{filled.uri}/in/b.jpg", size=1)
    assert caught.value.status == "failed"
