"""Tables as people's programs write them: lists and labelled tables read the same files in the same way."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from btc_ray.archive.entries import ArchiveError
from btc_ray.dataset.table import LabelledDataError, read_labelled
from btc_ray.storage import Place
from tests.archive.samples import jpeg, outcomes, write, zip_bytes

UTF8_BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.csv", UTF8_BOM + b"uri;label\r\n0001.jpg;1.1\r\nb.jpg;1.10\r\n"),
        ("t.CSV", b"uri,label\n0001.jpg,1.1\nb.jpg,1.10\n"),
        ("t.csv", b"sep=;\r\nuri;label\r\n0001.jpg;1.1\r\nb.jpg;1.10\r\n"),
        ("t.csv", b"Label ; URI\n1.1;0001.jpg\n1.10;b.jpg\n"),
        ("t.csv", b"uri\tlabel\n0001.jpg\t1.1\nb.jpg\t1.10\n"),
        ("t.tsv", b"uri\tlabel\r\n0001.jpg\t1.1\r\nb.jpg\t1.10\r\n"),
        ("t.txt", b"uri\tlabel\n0001.jpg\t1.1\nb.jpg\t1.10\n"),
        ("t.txt", b'"uri","label"\n"0001.jpg","1.1"\n\n"b.jpg","1.10"\n'),
        ("t.csv", "uri,label\r\n0001.jpg,1.1\r\nb.jpg,1.10\r\n".encode("utf-16")),
        ("t.csv", b"uri|label\n0001.jpg|1.1\nb.jpg|1.10\n"),
        ("t.csv", b"uri,label\r0001.jpg,1.1\rb.jpg,1.10\r"),
        ("t.csv", b"uri,label,\n0001.jpg,1.1,\nb.jpg,1.10,\n"),
    ],
)
def test_a_table_of_any_program_is_read_as_it_stands(tmp_path: Path, name: str, data: bytes) -> None:
    write(tmp_path, {name: data, "0001.jpg": jpeg(1), "b.jpg": jpeg(2)})
    table = read_labelled(Place(str(tmp_path / name)))
    assert table["uri"].to_pylist() == [f"{tmp_path}/0001.jpg", f"{tmp_path}/b.jpg"]
    assert table["label"].to_pylist() == ["1.1", "1.10"]
    assert outcomes(tmp_path, tmp_path / name) == {"0001.jpg": "ok", "b.jpg": "ok"}


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("t.csv", "uri,label\na.jpg,ménin\n".encode("cp1252"), "is not UTF-8 text .byte .*save it as UTF-8"),
        ("t.csv", b"path;label\na;b\n", "has no column .*uri.* .it has: path, label."),
        ("t.csv", b"root:x:0:0:/root:/bin/sh\n", "none that look like names of columns"),
        ("t.csv", b"uri,label\na,b.jpg,glioma\n", "3 cells in line 2 and 2 in its header.* comma in quotes"),
        ("t.csv", b"x" * 200_000, "more than 65,536 characters in line 1"),
        ("t.txt", b"a.jpg\nb.jpg\n", "has no column .*label"),
        ("t.pq", b"PAR1 and nothing", "is damaged: it is no Parquet file"),
        ("t.csv", b"PK\3\4" + bytes(90), "is an Excel workbook or a zip archive .*save the table as CSV"),
        ("t.csv", b"\xd0\xcf\x11\xe0" + bytes(90), "is an Excel workbook"),
        ("t.tsv", b"\x1f\x8b" + bytes(90), "is packed with gzip"),
        ("t.txt", b"PAR1" + bytes(90), "is Parquet"),
        ("t.csv", b"uri,label,label\na.jpg,glioma,notumor\n", "two columns called 'label'"),
        ("t.csv", b"uri,Label,LABEL\na.jpg,glioma,notumor\n", "two columns called 'label'"),
        ("t.xlsx", b"PK", "does not end as a table's"),
        ("t.json", b"{}", "does not end as a table's"),
    ],
)
def test_a_table_that_cannot_be_read_says_why_and_quotes_nothing_of_it(tmp_path: Path, name: str, data: bytes, told: str) -> None:
    write(tmp_path, {name: data})
    with pytest.raises(LabelledDataError, match=told) as caught:
        read_labelled(Place(str(tmp_path / name)))
    assert "root" not in str(caught.value).replace(str(tmp_path), "")


def spark(folder: Path) -> None:
    for number, label in enumerate("ab"):
        part = pa.table({"uri": [f"{number}{image}.jpg" for image in range(2)], "label": [label] * 2})
        pq.write_table(part, folder / f"part-0000{number}-abc.snappy.parquet")


def by_label(folder: Path) -> None:
    for number, label in enumerate(("a", "grade%20II")):
        (folder / f"label={label}").mkdir()
        part = pa.table({"uri": [f"{number}{image}.jpg" for image in range(2)]})
        pq.write_table(part, folder / f"label={label}/part-00000.parquet")


def csv_parts(folder: Path) -> None:
    for number, label in enumerate("ab"):
        lines = "".join(f"{number}{image}.jpg,{label}\n" for image in range(2))
        (folder / f"part-0000{number}-abc.csv").write_text(f"uri,label\n{lines}")


@pytest.mark.parametrize(
    ("name", "make", "labels"),
    [
        ("t.parquet", spark, ["a", "b"]),
        ("t", spark, ["a", "b"]),
        ("t.parquet", by_label, ["a", "grade II"]),
        ("t.csv", csv_parts, ["a", "b"]),
    ],
)
def test_a_folder_of_parts_is_one_table(tmp_path: Path, name: str, make: Callable[[Path], None], labels: list[str]) -> None:
    images = [f"{number}{image}.jpg" for number in range(2) for image in range(2)]
    write(tmp_path, {image: jpeg() for image in images} | {f"{name}/_SUCCESS": b"", f"{name}/.part.crc": b"x"})
    make(tmp_path / name)
    table = read_labelled(Place(str(tmp_path / name)))
    assert table["uri"].to_pylist() == [f"{tmp_path}/{image}" for image in images]
    assert table["label"].to_pylist() == [label for label in labels for _ in range(2)]
    assert outcomes(tmp_path, tmp_path / name) == dict.fromkeys(images, "ok")


def test_a_folder_with_an_image_beside_its_tables_is_no_table(tmp_path: Path) -> None:
    write(tmp_path, {"in/a.jpg": jpeg()})
    pq.write_table(pa.table({"uri": ["b.jpg"]}), tmp_path / "in/x.parquet")
    assert outcomes(tmp_path / "in") == {"a.jpg": "ok", "x.parquet": "skipped: not an image (.parquet)"}


def test_backslashes_part_folders_where_only_that_exists(tmp_path: Path) -> None:
    write(tmp_path, {"p1/a.jpg": jpeg(1), "odd\\b.jpg": jpeg(2), "x.zip": zip_bytes([("s/c.jpg", jpeg(3))])})
    write(tmp_path, {"t.csv": b"uri,label\r\np1\\a.jpg,a\r\nodd\\b.jpg,b\r\n.\\x.zip::s\\c.jpg,b\r\nD:\\gone.jpg,b\r\n"})
    table = read_labelled(Place(str(tmp_path / "t.csv")))
    assert [uri.removeprefix(f"{tmp_path}/") for uri in table["uri"].to_pylist()] == [
        "p1/a.jpg",
        "odd\\b.jpg",
        "x.zip::s/c.jpg",
        "D:\\gone.jpg",
    ]
    found = outcomes(tmp_path, tmp_path / "t.csv")
    assert found.pop("D:\\gone.jpg").startswith("failed: no such file or folder, with backslashes or with slashes")
    assert set(found.values()) == {"ok"}


class Trap:
    """An object whose unpickling leaves a file behind."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path(self.mark),)


class PickledType(pa.ExtensionType):  # type: ignore[misc]
    """What Ray registers for columns of objects, under a name of our own; making the type from a file is a trap here too."""

    def __init__(self) -> None:
        super().__init__(pa.large_binary(), "btc_ray.tests.pickled")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> "PickledType":
        PickledType.made += 1
        return PickledType()

    def __arrow_ext_class__(self) -> type:
        return PickledArray

    made = 0


class PickledArray(pa.ExtensionArray):  # type: ignore[misc]
    def to_pylist(self, **_: object) -> list[object]:
        return [pickle.loads(value) for value in self.storage.to_pylist()]


@pytest.mark.parametrize("column", ["uri", "label", "group"])
def test_a_column_of_pickled_objects_is_refused_by_the_schema_and_never_unpacked(tmp_path: Path, column: str) -> None:
    kind = PickledType()
    pa.register_extension_type(kind)
    try:
        mark = tmp_path / "ran"
        trap = pa.ExtensionArray.from_storage(kind, pa.array([pickle.dumps(Trap(str(mark)))] * 2, pa.large_binary()))
        columns = {"uri": ["a.jpg", "b.jpg"], "label": ["a", "b"], "group": ["1", "2"]} | {column: trap}
        pq.write_table(pa.table(columns), tmp_path / "t.parquet")
        PickledType.made = 0
        with pytest.raises(LabelledDataError, match=f"bytes, as objects of a program are stored, in its column '{column}'"):
            read_labelled(Place(str(tmp_path / "t.parquet")))
        if column == "uri":
            with pytest.raises(ArchiveError, match="only text is read"):
                outcomes(tmp_path, tmp_path / "t.parquet")
        else:
            outcomes(tmp_path, tmp_path / "t.parquet")
        Place(str(tmp_path / "t.parquet")).read_table().to_pylist()
        assert PickledType.made == 0
        assert not mark.exists()
        pq.read_table(tmp_path / "t.parquet")[column].combine_chunks().to_pylist()
        assert mark.exists()  # the trap works
    finally:
        pa.unregister_extension_type("btc_ray.tests.pickled")
