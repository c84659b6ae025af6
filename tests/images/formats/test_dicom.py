"""DICOM: the same picture however it is stored, compressed, numbered or turned; a true reason where there is none."""

import gzip
import struct

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from btc_ray.images.batch import prepare_batch
from btc_ray.images.decode import picture_of
from btc_ray.images.errors import Unreadable, Unsupported
from btc_ray.images.formats import samples, sniff
from btc_ray.images.formats.dicom import open_dicom
from btc_ray.images.prepare import Preprocess
from tests.images.formats.dicom_files import AXIAL, NATIVE, dicom, encoded, head

COMPRESSED = {RLELossless: "rle", JPEGLSLossless: "jpeg_ls", JPEG2000Lossless: "openjpeg"}


def _same(data: bytes, frame: int = 0) -> bool:
    return bool(np.array_equal(picture_of(data, frame=frame).grey, picture_of(dicom(head())).grey))


@pytest.mark.parametrize("syntax", NATIVE)
def test_every_uncompressed_syntax_gives_the_same_picture(syntax: str) -> None:
    assert _same(dicom(head(), syntax=syntax))


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_every_lossless_codec_gives_the_same_picture(syntax: str) -> None:
    pytest.importorskip(COMPRESSED[syntax])
    assert _same(dicom(head(), syntax=syntax))


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless])
def test_fragments_of_one_frame_are_joined(syntax: str) -> None:
    pytest.importorskip(COMPRESSED[syntax])
    pieces = encapsulate([encoded(head(), syntax)], fragments_per_frame=3)
    assert _same(dicom(head(), syntax=syntax, PixelData=pieces))


@pytest.mark.parametrize("syntax", samples.HTJ2K)
def test_htj2k_gives_the_same_picture_and_a_cut_frame_its_reason(syntax: str) -> None:
    pytest.importorskip("openjpeg")
    sample = samples.sample_frame(syntax)
    assert sample is not None
    frame, words, _ = sample
    assert np.array_equal(picture_of(dicom(words, syntax=syntax, frame=frame)).grey, picture_of(dicom(words)).grey)
    with pytest.raises(Unreadable, match="HTJ2K"):
        picture_of(dicom(words, syntax=syntax, frame=frame[:150]))


WAYS = {
    "as shown": (lambda p: p, AXIAL),
    "turned by 180°": (lambda p: p[::-1, ::-1], (-1, 0, 0, 0, -1, 0)),
    "rows reversed": (lambda p: p[::-1], (1, 0, 0, 0, -1, 0)),
    "columns reversed": (lambda p: p[:, ::-1], (-1, 0, 0, 0, 1, 0)),
    "transposed": (lambda p: p.T, (0, 1, 0, 1, 0, 0)),
    "turned by 90°": (lambda p: np.rot90(p), (0, 1, 0, -1, 0, 0)),
    "turned by 270°": (lambda p: np.rot90(p, 3), (0, -1, 0, 1, 0, 0)),
    "transposed the other way": (lambda p: p[::-1, ::-1].T, (0, -1, 0, -1, 0, 0)),
    "oblique by 8°": (lambda p: p, (1, 0, 0, 0, np.cos(0.14), np.sin(0.14))),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("spacing", [(1, 1), (0.5, 1)])
def test_a_slice_is_shown_upright_however_it_is_stored(way: str, spacing: tuple[float, float]) -> None:
    stored, orientation = WAYS[way]
    swapped = spacing[::-1] if stored(head()).shape != head().shape else spacing
    data = dicom(
        np.ascontiguousarray(stored(head())),
        ImageOrientationPatient=[f"{x:.9f}" for x in orientation],
        PixelSpacing=list(swapped),
    )
    picture, plain = picture_of(data), picture_of(dicom(head(), PixelSpacing=list(spacing)))
    assert np.array_equal(picture.grey, plain.grey)
    assert (picture.plane, picture.geometry) == ("axial", "affine")
    assert picture.oblique_deg == pytest.approx(8.02 if "oblique" in way else 0, abs=0.1)


@pytest.mark.parametrize(
    ("orientation", "plane", "shown"),
    [
        ((1, 0, 0, 0, 0, -1), "coronal", lambda p: p),
        ((1, 0, 0, 0, 0, 1), "coronal", lambda p: p[::-1]),
        ((0, 1, 0, 0, 0, -1), "sagittal", lambda p: p),
        ((0, -1, 0, 0, 0, 1), "sagittal", lambda p: p[::-1, ::-1]),
    ],
)
def test_coronal_and_sagittal_slices_show_the_head_up(orientation: tuple[int, ...], plane: str, shown) -> None:
    picture = picture_of(dicom(head(), ImageOrientationPatient=list(orientation)))
    assert picture.plane == plane
    assert np.array_equal(picture.grey, shown(picture_of(dicom(head())).grey))


@pytest.mark.parametrize("orientation", [None, [0, 0, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0], [1, 0, 0]])
def test_without_a_usable_orientation_it_is_shown_as_stored(orientation: list[int] | None) -> None:
    picture = picture_of(dicom(head(), ImageOrientationPatient=orientation))
    assert (picture.plane, picture.oblique_deg, picture.geometry) == (None, None, "none")
    assert np.array_equal(picture.grey, picture_of(dicom(head())).grey)


def _float(pixels: np.ndarray) -> bytes:
    return dicom(
        pixels, PixelData=None, FloatPixelData=pixels.astype("<f4").tobytes(), BitsAllocated=32, BitsStored=None, HighBit=None
    )


PIXELS = {
    "MONOCHROME1": lambda p: dicom((4095 - p).astype(np.uint16), PhotometricInterpretation="MONOCHROME1"),
    "signed, slope 2": lambda p: dicom((p - 1024).astype(np.int16), RescaleSlope=2, RescaleIntercept=-7),
    "negative slope": lambda p: dicom((4095 - p).astype(np.uint16), RescaleSlope=-1, RescaleIntercept=4095),
    "an overlay in the high bits": lambda p: dicom(p | np.uint16(0x9000)),
    "bits that lie high": lambda p: dicom(p << np.uint16(4), HighBit=15),
    "32 bit": lambda p: dicom(p.astype(np.uint32)),
    "floats": _float,
    "an absurd window for eyes": lambda p: dicom(p, WindowCenter=0, WindowWidth=0),
}


@pytest.mark.parametrize("kind", PIXELS)
def test_numbers_stored_another_way_give_the_same_picture(kind: str) -> None:
    assert _same(PIXELS[kind](head()))


def test_the_window_is_told_in_the_numbers_of_the_scanner() -> None:
    plain, scaled = picture_of(dicom(head())), picture_of(dicom(head(), RescaleSlope=2, RescaleIntercept=-100))
    inverse = picture_of(PIXELS["MONOCHROME1"](head()))
    assert plain.window_low is not None
    assert plain.window_high is not None
    assert scaled.window_low == 2 * plain.window_low - 100
    assert (inverse.window_low, inverse.window_high) == (4095 - plain.window_low, 4095 - plain.window_high)


@pytest.mark.parametrize("padding", [{"PixelPaddingValue": 4095}, {"PixelPaddingValue": 4000, "PixelPaddingRangeLimit": 4095}])
def test_padding_is_black_and_moves_no_percentile(padding: dict[str, int]) -> None:
    wide = np.full((120, 200), 4095, np.uint16)
    wide[:, 50:150] = head()
    grey = picture_of(dicom(wide, **padding)).grey
    assert not grey[:, :50].any()
    assert np.array_equal(grey[:, 50:150], picture_of(dicom(head())).grey)


@pytest.mark.parametrize("data", [dicom(np.full((64, 64), 7, np.uint16)), dicom(head(), RescaleSlope=0), dicom(0 * head())])
def test_a_constant_picture_is_black_and_not_an_error(data: bytes) -> None:
    assert not picture_of(data).grey.any()


def test_long_pixels_keep_the_shape_of_the_head() -> None:
    assert picture_of(dicom(head(120, 100), PixelSpacing=[2, 1])).grey.shape == (240, 100)


@pytest.mark.parametrize("kept", ["gzip", "no preamble", "bare dataset", "trailing bytes"])
def test_a_file_is_known_by_its_content(kept: str) -> None:
    whole = dicom(head(), syntax=NATIVE[1])
    meta = 132 + 12 + struct.unpack_from("<I", whole, 140)[0]
    data = {
        "gzip": gzip.compress(whole),
        "no preamble": whole[132:],
        "bare dataset": whole[meta:],
        "trailing bytes": whole + bytes(512),
    }
    assert _same(data[kept])


def test_frames_have_their_own_slope_and_orientation() -> None:
    group = Dataset()
    transformation, turned = Dataset(), Dataset()
    transformation.RescaleSlope, transformation.RescaleIntercept = 3, 1
    turned.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]
    group.PixelValueTransformationSequence, group.PlaneOrientationSequence = Sequence([transformation]), Sequence([turned])
    frames = np.stack([head(), head()[::-1, ::-1]])
    data = dicom(frames, frames=2, PerFrameFunctionalGroupsSequence=Sequence([Dataset(), group]))
    assert open_dicom(data).frames == 2
    assert _same(data, 0)
    assert _same(data, 1)
    assert picture_of(data, frame=1).window_low == 3 * (picture_of(data, frame=0).window_low or 0) + 1


def _reason(data: bytes, frame: int = 0) -> tuple[type[Exception], str]:
    with pytest.raises((Unreadable, Unsupported)) as caught:
        picture_of(data, frame=frame)
    assert "LEAK" not in str(caught.value)
    return caught.type, str(caught.value)


REFUSED = {
    "cut within its pixels": (dicom(head())[:-9000], Unreadable, "cut short"),
    "its last two bytes missing": (dicom(head())[:-2], Unreadable, "cut short"),
    "cut within its header": (dicom(head())[:300], Unreadable, "cut short"),
    "only its mark": (bytes(128) + b"DICM", Unreadable, "cut short"),
    "no pixels": (dicom(head(), PixelData=None), Unreadable, "no pixel data"),
    "no rows": (dicom(head(), Rows=None), Unreadable, "Rows"),
    "no frames": (dicom(head(), NumberOfFrames=0), Unreadable, "NumberOfFrames"),
    "a hundred thousand frames": (dicom(head(), NumberOfFrames=100_000), Unreadable, "NumberOfFrames"),
    "65,535 rows and columns": (dicom(head(), Rows=65_535, Columns=65_535), Unreadable, "shorter"),
    "three samples of grey": (dicom(head(), SamplesPerPixel=3), Unreadable, "shorter"),
    "fragments said to be none": (
        dicom(head(), syntax=RLELossless).replace(RLELossless.encode(), NATIVE[0].encode()),
        Unreadable,
        "fragments",
    ),
    "a mosaic": (dicom(head(), ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), Unsupported, "mosaic"),
    "a report": (dicom(head(), SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11"), Unsupported, "holds no picture"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_gives_no_picture_says_why(case: str) -> None:
    data, status, words = REFUSED[case]
    found, reason = _reason(data)
    assert found is status
    assert words in reason


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_a_compressed_file_that_is_cut_is_cut_short_and_not_empty(syntax: str) -> None:
    data = dicom(head(), syntax=syntax)
    found, reason = _reason(data[: len(data) * 6 // 10])
    assert found is Unreadable
    assert "cut short" in reason


def test_of_a_cut_file_of_many_frames_the_whole_ones_are_scored() -> None:
    frames = np.stack([head()] * 10)
    whole = dicom(frames, frames=10)
    data = whole[: len(whole) - 3 * head().nbytes]
    rows = [{"row_id": at, "uri": f"a#frame={at}", "frame": at} for at in range(10)]
    table = prepare_batch(rows, [data] * 10, Preprocess(size=32))
    assert table["status"].to_pylist() == ["ok"] * 7 + ["unreadable"] * 3


def test_a_jpeg_called_dcm_is_a_jpeg_and_dicom_called_jpg_is_dicom() -> None:
    found = sniff(dicom(head())[:1024])
    assert found is not None
    assert found.name == "DICOM"
