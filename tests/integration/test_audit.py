"""`btc-ray audit`: what was planted is found, and odd data sets get a clear page or a clear error."""

import json
import re
import shutil
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path

import cv2
import pandas as pd
import pyarrow as pa
import pytest
from safetensors.torch import save_file

from btc_ray.cli import main
from btc_ray.images.decode import decode
from btc_ray.model.weights import initial_network
from btc_ray.reports.audit import probes

pytestmark = pytest.mark.ray

MIRRORED, RECODED = 3, 2


@pytest.fixture(scope="module")
def data(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms with copies of training images among the test images, one copy under another label, and two files that are no images."""
    folder = Path(shutil.copytree(phantoms, tmp_path_factory.mktemp("audit") / "data"))
    training = {label.name: sorted(label.iterdir()) for label in (folder / "Training").iterdir()}
    testing = folder / "Testing"
    for source in training["glioma"][:MIRRORED]:
        assert cv2.imwrite(str(testing / "glioma" / f"mirrored {source.stem}.png"), decode(source.read_bytes())[:, ::-1])
    for source in training["notumor"][:RECODED]:
        recode(source, testing / "notumor" / f"recoded {source.stem}.jpg")
    shutil.copy(training["pituitary"][0], testing / "pituitary" / "same.jpg")
    assert cv2.imwrite(str(testing / "meningioma" / "pixels.png"), decode(training["meningioma"][0].read_bytes()))
    recode(training["glioma"][5], folder / "Training" / "meningioma" / "conflict.jpg")
    (testing / "notumor" / "broken.jpg").write_bytes(b"")
    (folder / "Training" / "notumor" / "letter.jpg").write_text("Dear colleague,")
    return folder


def recode(source: Path, target: Path) -> None:
    assert cv2.imwrite(str(target), decode(source.read_bytes()), [cv2.IMWRITE_JPEG_QUALITY, 60])


def audit(data: Path, output: Path, *more: str) -> int:
    return main(["audit", "--data", str(data), "--output", str(output), "--cache", str(output.parent / "cache"), *more])


def record_of(output: Path) -> dict:
    return json.loads((output / "audit.json").read_text())


@pytest.fixture(scope="module")
def audited(data: Path, model: Path, ray_here: None) -> Path:
    output, weights = data.parent / "out", data.parent / "random.safetensors"
    save_file(initial_network("none", 2, seed=0).state_dict(), weights)
    assert audit(data, output, "--weights", str(weights), "--model", str(model)) == 0
    return output


def test_planted_copies_are_counted_by_kind(audited: Path) -> None:
    found = record_of(audited)
    copies = found["copies"]
    assert found["counts"]["test_images_with_copy_in_training"] == MIRRORED + RECODED + 2
    assert copies["test_images_with_copy_in_training_by_kind"] == {
        "same file": 1, "same pixels": 1, "re-encoded": RECODED, "mirrored": MIRRORED, "turned": 0,
    }  # fmt: skip
    assert copies["test_images_with_copy_in_training_by_class"]["glioma"] == {"test_images": 5 + MIRRORED, "with_copy": MIRRORED}
    assert copies["groups_across_splits"] == MIRRORED + RECODED + 2
    assert copies["conflicts"] == {"glioma / meningioma": 1}
    assert found["counts"]["images_with_conflicting_labels"] == 2


def test_the_tables_have_a_row_for_every_image(audited: Path) -> None:
    images, groups = (pd.read_parquet(audited / f"{name}.parquet") for name in ("images", "groups"))
    assert len(images) == len(groups) == 60 + MIRRORED + RECODED + 2 + 1 + 2
    assert list(groups.columns) == ["uri", "label", "split", "group"]
    assert set(groups["uri"]) == set(images["uri"])
    by_name = images.set_index(images["uri"].str.rpartition("/")[2])
    assert by_name.loc["broken.jpg", "status"] == "unreadable"
    assert pd.isna(by_name.loc["broken.jpg", "plane"])
    assert by_name.loc["same.jpg", "copy_in_training"] == "same file"
    assert by_name.loc["conflict.jpg", "conflicting_label"]
    same = groups[groups["group"] == by_name.loc["same.jpg", "group"]]
    assert sorted(same["split"]) == ["test", "train"]
    ok = images[images["status"] == "ok"]
    assert len(ok) == len(images) - 2
    assert ok[["format", "mode", "width", "brightness", "crop_doubt", "plane", "label_margin"]].notna().all(axis=None)


def test_the_verdict_is_made_from_the_numbers(audited: Path) -> None:
    found = record_of(audited)
    tested = 20 + MIRRORED + RECODED + 2 + 1
    assert f"{MIRRORED + RECODED + 2} of {tested} test images" in found["verdict"]["cannot"][0]
    assert f"{MIRRORED} mirrored" in found["verdict"]["cannot"][0]
    assert "2 files cannot be read." in found["verdict"]["notes"]
    assert any("2 images in 1 group" in sentence for sentence in found["verdict"]["cannot"])


def test_every_part_has_its_numbers(audited: Path) -> None:
    found = record_of(audited)
    assert [probe["key"] for probe in found["probes"]["probes"]] == [
        "histogram",
        "border",
        "silhouette",
        "thumbnail",
        "neighbour",
    ]
    for probe in found["probes"]["probes"]:
        assert set(probe["results"]) == {"published", "published_without_copies", "group"}
    assert found["masking"]["images"] == 27
    assert len(found["masking"]["rows"]) == 7
    assert found["labels"]["images"] == 60 + MIRRORED + RECODED + 2 + 1
    assert found["planes"]["on_phantoms"]["accuracy"]["value"] > 0.8
    assert sum(bad["images"] for bad in found["unreadable"]) == 2
    assert sum(map(sum, found["properties"]["mode"].values())) == found["data"]["readable"]


class _Page(HTMLParser):
    """Tags that are opened and closed in order, anchors and what they lead to, and whatever would be fetched."""

    void = frozenset(("meta", "img", "br", "link", "hr", "rect", "path", "circle"))

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.fetched: list[str] = []
        self.unnamed = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in self.void:
            self.open.append(tag)
        if found.get("id"):
            self.ids.add(str(found["id"]))
        self.links |= {str(found["href"])} if "href" in found else set()
        self.fetched += [str(found[name]) for name in ("src", "srcset", "data") if name in found]
        self.unnamed += tag == "img" and not found.get("alt")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def whole_page(output: Path) -> str:
    """The page's text, which is well-formed, leads nowhere else and fetches nothing."""
    text = (output / "audit.html").read_text()
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert page.unnamed == 0
    assert {link.removeprefix("#") for link in page.links} <= page.ids
    assert all(source.startswith("data:image/") for source in page.fetched)
    assert "<script" not in text
    assert not re.search(r"https?://", text)
    return text


def test_the_page_shows_the_copies_side_by_side_and_fetches_nothing(audited: Path) -> None:
    text = whole_page(audited)
    for said in (
        "Mirrored: a test image and its copies in training",
        "glioma / meningioma",
        "mirrored Tr-gl_0000.png",
        "it is text",
    ):
        assert said in text
    assert len(text) < 4_000_000


def test_a_second_audit_takes_the_place_of_the_first_but_not_of_anything_else(audited: Path, data: Path, tmp_path: Path) -> None:
    before = record_of(audited)["counts"]
    assert audit(data, audited, "--weights", "none", "--shown", "0") == 0
    after = record_of(audited)
    assert after["counts"] == before | {"suspected_labels": None}
    assert after["masking"]["reason"] == "no --model was given"
    assert whole_page(audited).count("<img") == 0
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    assert audit(data, tmp_path / "out", "--weights", "none") == 4


def test_neither_the_page_nor_the_memory_of_the_driver_grows_with_the_images(
    phantoms: Path, tmp_path: Path, ray_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "MOST_LEARNED", 100)  # so that a few hundred images are already too many
    monkeypatch.setattr(probes, "MOST_ASKED", 50)
    small, large = (_measured(phantoms, tmp_path / str(times), times) for times in (8, 40))
    more = 60 * (40 - 8)
    # A crop is 50 KB, and was held three times over. Names, hashes and results are a few KB, and the one file of crops that is read at
    # a time grows up to 512 of them.
    assert (large["held"] - small["held"]) / more < 20_000
    assert large["pictures"] == small["pictures"]
    assert large["page"] < 1.1 * small["page"]
    assert '<th scope="row">Training images learned from</th><td class="n">100<small>of 1,400</small>' in large["text"]


def _measured(phantoms: Path, folder: Path, times: int) -> dict:
    """An audit of every phantom so many times, each eighth time as a test image: what Python, NumPy and Arrow held at most in this
    process, in bytes, and the page."""
    for source in sorted(path for path in phantoms.rglob("*.*") if path.is_file()):
        split, label, _ = source.relative_to(phantoms).parts
        for number in range(times):
            target = folder / "data" / ("Testing" if number % 8 == 7 else split) / label
            target.mkdir(parents=True, exist_ok=True)
            (target / f"{source.stem}-{number}{source.suffix}").hardlink_to(source)
    pool, before = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        assert audit(folder / "data", folder / "out", "--weights", "none", "--shown", "4") == 0
        held = tracemalloc.get_traced_memory()[1] + pool.max_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)
    text = whole_page(folder / "out")
    return {"held": held, "page": len(text), "pictures": text.count("<img"), "text": text}


def _one_class(phantoms: Path, folder: Path) -> None:
    shutil.copytree(phantoms / "Testing" / "glioma", folder / "glioma")


def _one_image(phantoms: Path, folder: Path) -> None:
    (folder / "glioma").mkdir(parents=True)
    shutil.copy(min((phantoms / "Testing" / "glioma").iterdir()), folder / "glioma")


def _unreadable(phantoms: Path, folder: Path) -> None:
    for label in ("glioma", "notumor"):
        (folder / label).mkdir(parents=True)
        (folder / label / "broken.jpg").write_bytes(b"\xff\xd8\xff")


def _no_split(phantoms: Path, folder: Path) -> None:
    shutil.copytree(phantoms / "Testing", folder)


@pytest.mark.parametrize(
    ("make", "headline", "said"),
    [
        (_one_class, "All 5 images are labelled glioma", "needs readable images of two classes"),
        (_one_image, "The only image is labelled glioma", "needs readable images of two classes"),
        (_unreadable, "None of the 2 images can be read", "No image could be read"),
        (_no_split, "", "the data does not say which images train and which test"),
    ],
)
def test_an_odd_data_set_gets_a_clear_page(
    make, headline: str, said: str, phantoms: Path, tmp_path: Path, ray_here: None
) -> None:
    make(phantoms, tmp_path / "data")
    assert audit(tmp_path / "data", tmp_path / "out", "--weights", "none") == 0
    assert record_of(tmp_path / "out")["verdict"]["headline"].startswith(headline)
    assert said in whole_page(tmp_path / "out")


@pytest.mark.parametrize("unlabelled", [False, True])
def test_an_empty_or_unlabelled_folder_is_a_clear_error(
    unlabelled: bool, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    if unlabelled:
        shutil.copy(min((phantoms / "Testing" / "glioma").iterdir()), tmp_path / "data")
    assert audit(tmp_path / "data", tmp_path / "out", "--weights", "none") == 2
    said = capsys.readouterr().err
    assert ("stands in no class folder" if unlabelled else "no image was found in") in said
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_there_are_missed_at_once(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit(data, tmp_path / "out", "--weights", str(tmp_path / "none.pth")) == 2
    assert "weights not found" in capsys.readouterr().err


def test_a_class_with_a_source_of_its_own_is_told_in_plain_words(data: Path, tmp_path: Path, ray_here: None) -> None:
    images = sorted(path for path in (data / "Training").rglob("*.*") if path.parent.name in ("glioma", "notumor"))
    lines = [f"{path},{path.parent.name},{'web' if path.parent.name == 'notumor' else 'clinic'}" for path in images]
    (tmp_path / "table.csv").write_text("\n".join(["uri,label,source", *lines]))
    assert audit(tmp_path / "table.csv", tmp_path / "out", "--weights", "none") == 0
    found = record_of(tmp_path / "out")
    assert found["sources"]["named"] == len(images)
    assert set(found["sources"]["own"]) == {"glioma", "notumor"}
    assert len(found["sources"]["told"]) == 3
    assert any("rather than its source" in sentence for sentence in found["verdict"]["cannot"])
    assert '<section id="sources">' in (tmp_path / "out" / "audit.html").read_text()
