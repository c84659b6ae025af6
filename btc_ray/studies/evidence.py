"""Why a series is none to score: the reasons, in their order, each with its evidence. Tags come before text; text only excludes.

The vocabulary is closed: scripts may rely on these words.
"""

import re
from collections.abc import Callable

from btc_ray.studies import vocabulary as words
from btc_ray.studies.facts import SeriesFacts

Evidence = Callable[[SeriesFacts], str | None]  # "tags", "text", or None where the reason does not hold

LOCALISER_SLICES = 30
_GE_THREE_PLANES = 256
_MANY_TIMES = 4  # so many volumes at one position are a time course


def _text(alternatives: str) -> re.Pattern[str]:
    """Whole words, each a pattern, with spaces between them."""
    return re.compile(rf"(?<![a-z0-9])(?:{'|'.join(alternatives.split())})(?![a-z0-9])")


_LOCALISER = _text(
    r"locs? loka\w* locali[sz]e?r?\w* \w*scout\w* survey\w* 3.?plane?\w* tri.?plan\w* pilot topo\w* "
    r"\w*calibration\w* smart.?brain\w* sense.?ref\w* coil.?(?:survey|ref)\w*"
)
_DIFFUSION = _text(
    r"\w*dwi\w* \w*dti\w* diff\w* ep2d_diff\w* hardi\w* dki tensor ivim noddi\w* tracew? b[1-9]\d{2,3} resolve\w*trac\w*"
)
_PERFUSION = _text(r"\w*perf\w* p?c?asl\w* pasl\w* dsc dce\w* pwi rel?cb[fv]\w* r?cb[fv] r?mtt ttp tmax m0scan gbp pbp")
_FUNCTIONAL = _text(r"\w*fmri\w* \w*bold\w* rest\d* resting\w* func\w* task\w* sbref moco.?series evaseries\w* \w*_glm")
_ANGIOGRAPHY = _text(
    r"\w*mra\d* \w*tof\w* angio\w* [mn]?ip min.?ip\w* mip\w* venogr\w* mrv inhance\w* tricks vessels? carotid\w*"
)
_FIELD_MAP = _text(
    r"\w*field.?map\w* \w*gre.?field\w* b[01].?maps? b0 phase.?(?:map|image|diff)\w* magph pha? fmap\w* topup\w* shim\w* "
    r"phasediff magnitude[12]? epi_fm\w* r?b1"
)
_DERIVED_MAP = _text(
    r"[de]?adc\w* fa(?!\s*\d) colfa t[12]\*?.?(?:star.?)?map\w* r2\*?.?maps? sub(?:tract\w*)? color\w* param\w*map\w* "
    r"quantitative"
)
_OTHER_PART = _text(
    r"knee\w* \w*spine lumb\w* thora\w* abdom\w* liver prostat\w* pelvi\w* shoulder breast\w* cardia\w* heart hips? ankle "
    r"wrist elbow foot hand lws hws bws knie\w*"
)
_SCREEN = _text(r"screen.?sav\w* screen.?shot\w* screen.?capture\w* patient.?protocol dose.?report\w*")
_HEAD = _text(r"head\w* \w*brain\w* neuro\w* skull\w* kopf\w* cereb\w* crani\w*")
_MASK = _text(
    r"\w*mask\w* d?seg\w* segmentation\w* labels?\w* atlas\w* aparc\w* aseg rois? probseg [zt].?(?:stat|map)\d* spm[tf]\w* "
    r"spmmotor pve\w* warp\w* lesion\w*"
)


def _no_pixels(series: SeriesFacts) -> str | None:
    return "tags" if series.dicom and words.holds_no_picture(series.sop_class, series.modality) else None


def _not_mr(series: SeriesFacts) -> str | None:
    if not series.dicom:
        return "tags" if series.suffix in ("pet", "ct", "CT") else None  # else a NIfTI file does not say
    if series.sop_class in words.MR_CLASSES or series.sop_class == words.PARAMETRIC_MAP:
        return None
    if (series.sop_class or "").startswith(words.SECONDARY_CAPTURES):
        return "tags" if series.modality not in (None, "MR", "OT", "SC") else None
    if series.sop_class is None:
        return "tags" if series.modality != "MR" else None
    return "tags"


def _secondary(series: SeriesFacts) -> str | None:
    captured = (series.sop_class or "").startswith(words.SECONDARY_CAPTURES)
    coloured = series.dicom and (series.photometric or "").startswith(("RGB", "PALETTE", "YBR"))
    screen = series.has("SCREEN SAVE", "SCREENSAVE", "SCREEN CAPTURE", "CSA REPORT", "REPORT", "PASTED", "GSPS")
    return "tags" if captured or coloured or screen else series.says(_SCREEN)


def _localiser(series: SeriesFacts) -> str | None:
    if series.has("LOCALIZER", "LOCALISER", "SCOUT") or series.plane_type == _GE_THREE_PLANES:
        return "tags"
    if series.orientations >= 3 and series.slices <= LOCALISER_SLICES:
        return "tags"
    return series.says(_LOCALISER)


def _mosaic(series: SeriesFacts) -> str | None:
    return "tags" if series.has("MOSAIC") else None


def _diffusion(series: SeriesFacts) -> str | None:
    if series.has("DIFFUSION", "TRACEW") or (series.b_value or 0) > 0:
        return "tags"
    return "text" if series.suffix == "dwi" else series.says(_DIFFUSION)


def _perfusion(series: SeriesFacts) -> str | None:
    if series.has(
        "PERFUSION", "ASL", "PERFUSION_ASL", "CBF", "CBV", "RCBF", "RCBV", "MTT", "TTP", "TMAX", "RELCBF", "RELCBV", "RELMTT"
    ):
        return "tags"
    if series.times >= _MANY_TIMES and series.contrast_agent:
        return "tags"
    return "text" if series.suffix in ("asl", "m0scan", "perf") else series.says(_PERFUSION)


def _functional(series: SeriesFacts) -> str | None:
    if series.has("FMRI"):
        return "tags"
    if series.dicom and series.times >= _MANY_TIMES and "EP" in (series.scanning_sequence or "").split("\\"):
        return "tags"
    return "text" if series.suffix in ("bold", "sbref", "cbv") else series.says(_FUNCTIONAL)


def _angiography(series: SeriesFacts) -> str | None:
    if series.angio or series.has(
        "MIP", "MNIP", "MINIP", "MAX_IP", "MIN_IP", "PROJECTION IMAGE", "PROJECTION", "TOF", "VOLUME RENDERING", "ANGIO"
    ):
        return "tags"
    return "text" if series.suffix == "angio" else series.says(_ANGIOGRAPHY)


def _phase(series: SeriesFacts) -> str | None:
    if series.has(
        "P",
        "PHASE",
        "PHASE MAP",
        "PHASE_MAP",
        "FIELD_MAP",
        "FIELD MAP",
        "B0",
        "B0 MAP",
        "B1",
        "REAL",
        "IMAGINARY",
        "R",
        "I",
        "VELOCITY",
    ):
        return "tags"
    if series.component not in (None, "MAGNITUDE"):
        return "tags"
    if series.suffix in ("phasediff", "phase1", "phase2", "magnitude", "magnitude1", "magnitude2", "fieldmap", "epi", "TB1map"):
        return "text"
    return series.says(_FIELD_MAP)


def _derived_map(series: SeriesFacts) -> str | None:
    if series.sop_class == words.PARAMETRIC_MAP:
        return "tags"
    if series.has("ADC", "EADC", "FA", "COLFA", "TRACE", "T1 MAP", "T2 MAP", "T2_STAR MAP", "R2 MAP", "R2_STAR MAP", "T1_MAP", "T2_MAP",
                  "SUBTRACTION", "SUBTRACT", "SUB", "PERCENTAGE", "UNI_MAP", "PARAMETRIC MAP",
                  "FAT", "FAT FRACTION", "FAT_FRACTION"):  # fmt: skip
        return "tags"
    return "text" if (series.suffix or "").endswith("map") else series.says(_DERIVED_MAP)


def _other_part(series: SeriesFacts) -> str | None:
    if series.body_part is not None:
        return None if words.is_head(series.body_part) else "tags"
    return series.says(_OTHER_PART) if series.says(_HEAD) is None else None


def _mask(series: SeriesFacts) -> str | None:
    if series.has("MASK", "SEGMENTATION", "LABELMAP") or series.label_like:
        return "tags"
    if series.dicom:
        return None
    return "text" if series.suffix in ("mask", "dseg", "probseg", "xfm") else series.says(_MASK)


def _several(series: SeriesFacts) -> str | None:
    return "tags" if series.volumes > 1 or series.times >= _MANY_TIMES else None


REASONS: dict[str, Evidence] = {
    "no pixels": _no_pixels,
    "not MR": _not_mr,
    "secondary capture or report": _secondary,
    "localiser": _localiser,
    "mosaic": _mosaic,
    "diffusion": _diffusion,
    "perfusion": _perfusion,
    "functional": _functional,
    "angiography or projection": _angiography,
    "phase or field map": _phase,
    "derived map": _derived_map,
    "other body part": _other_part,
    "mask or label map": _mask,
    "several volumes": _several,
}
"""In the order in which they are asked; the first that holds is the one that is named."""


def reason_against(series: SeriesFacts) -> tuple[str, str] | None:
    """The first reason not to score a series and whether tags or text say so; None where there is none."""
    for reason, holds in REASONS.items():
        if evidence := holds(series):
            return reason, evidence
    return None
