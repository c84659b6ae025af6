"""The published data set is known by names and pixels, at any size; anything else that is called so is not."""

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from btc_ray.dataset.patients import with_patients
from btc_ray.dataset.published import NEAR, pixel_print, print_difference, published_table
from btc_ray.dataset.table import read_labelled
from btc_ray.phantoms.phantom import write_phantoms
from btc_ray.storage import Place

CONTRADICTED = ("Te-piTr_0002.jpg", "Tr-pi_0043.jpg", "Tr-pi_0515.jpg", "Tr-pi_0520.jpg")


def folder_of(real_images: Path, folder: Path, change: Callable[[Path, Path], object], *, most: int = 40) -> Place:
    """Some images of each class of the real ones, those whose label is contradicted among them, each made by `change`."""
    for label in ("glioma", "meningioma", "pituitary"):
        (folder / label).mkdir(parents=True)
        files = [path for path in sorted(real_images.glob(f"*/{label}/*")) if path.name in published_table()]
        for path in [*files[:most], *(path for path in files[most:] if path.name in CONTRADICTED)]:
            change(path, folder / label / path.name)
    return Place(str(folder))


def half_size(source: Path, target: Path) -> None:
    grey = cv2.imread(str(source), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(target), cv2.resize(grey, (112, 112), interpolation=cv2.INTER_AREA))


def test_the_table_names_patients_examinations_and_four_contradicted_labels() -> None:
    table = published_table()
    assert len(table) == 4750
    assert len({known.patient for known in table.values()}) == 209
    assert len({known.examination for known in table.values()}) == 233
    assert tuple(sorted(name for name, known in table.items() if known.label)) == CONTRADICTED


@pytest.mark.parametrize("shape", [(64, 64), (224, 224), (300, 512), (97, 131)])
def test_the_pixels_of_a_picture_are_known_at_any_size(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (12, 12)).astype(np.uint8)
    picture, other = (cv2.resize(part, (448, 448), interpolation=cv2.INTER_CUBIC) for part in (coarse, coarse.T.copy()))
    resized = cv2.resize(picture, shape, interpolation=cv2.INTER_AREA)
    assert len(pixel_print(picture)) == 32
    assert print_difference(pixel_print(picture), pixel_print(resized)) <= NEAR
    assert print_difference(pixel_print(picture), pixel_print(other)) > NEAR


@pytest.mark.shared
@pytest.mark.parametrize("change", [shutil.copyfile, half_size])
def test_the_published_images_have_their_patients_and_the_labels_of_their_authors(
    real_images: Path, tmp_path: Path, change: Callable[[Path, Path], object], capsys: pytest.CaptureFixture[str]
) -> None:
    place = folder_of(real_images, tmp_path / "data", change)
    table = with_patients(read_labelled(place), place, None)
    known = published_table()
    for row in table.select(["uri", "label", "group", "examination"]).to_pylist():
        name = row["uri"].rpartition("/")[2]
        assert (row["group"], row["examination"]) == (known[name].patient, known[name].examination)
        assert name not in CONTRADICTED or row["label"] == "meningioma"
    said = capsys.readouterr().err
    assert "10.6084/m9.figshare.1512427, CC BY 4.0" in said
    assert said.count("pituitary is corrected to meningioma") == 4


@pytest.mark.shared
def test_labels_and_groups_stay_as_they_are_where_that_is_asked_for(real_images: Path, tmp_path: Path) -> None:
    place = folder_of(real_images, tmp_path / "data", shutil.copyfile)
    table = read_labelled(place)
    assert with_patients(table, place, "none") is table
    assert with_patients(table, place, None, published_sides=True) is table
    kept = with_patients(table, place, None, keep_labels=True)
    assert kept["label"].equals(table["label"])
    assert kept["group"].null_count == 0


def test_other_pictures_of_the_same_names_are_not_taken_for_the_published_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_phantoms(tmp_path / "made", per_class=3, seed=0, splits=("Training",), size=(96, 96))
    names = iter(sorted(published_table()))
    for file in sorted(path for path in (tmp_path / "made").rglob("*") if path.is_file()):
        file.rename(file.with_name(next(names)))
    place = Place(str(tmp_path / "made"))
    table = with_patients(read_labelled(place), place, None)
    assert table["group"].null_count == len(table)
    assert "figshare" not in capsys.readouterr().err


@pytest.mark.shared
def test_images_of_which_many_were_changed_are_told_and_not_taken(
    real_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def turned(source: Path, target: Path) -> None:
        grey = cv2.imread(str(source), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(target), grey if int(source.stem[-1]) % 2 else np.rot90(grey))

    place = folder_of(real_images, tmp_path / "data", turned)
    assert with_patients(read_labelled(place), place, None)["group"].null_count > 100
    assert "its table of patients is not used" in capsys.readouterr().err
