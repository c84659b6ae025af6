"""The words of headers that mean something here: SOP classes, body parts, families of manufacturers. All else is not copied on."""

import re

DICOMDIR = "1.2.840.10008.1.3.10"
MR_CLASSES = frozenset(f"1.2.840.10008.5.1.4.1.1.4{end}" for end in ("", ".1", ".3", ".4"))
SECONDARY_CAPTURES = "1.2.840.10008.5.1.4.1.1.7"
PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
_ROOT = "1.2.840.10008.5.1.4.1.1."
# Without the root: reports, key objects, presentation states, waveforms, registrations, segmentations, raw data, spectroscopy,
# encapsulated documents and models, radiotherapy objects (images and doses apart).
_NO_PICTURE = re.compile(r"(88|11|9|66|67|68|4\.2|104|481\.[3-9]|481\.1\d|200|130|78|79)(\.|$)")
_NO_PICTURE_MODALITIES = frozenset(
    {"SR", "PR", "KO", "SEG", "RTSTRUCT", "RTPLAN", "RTRECORD", "DOC", "REG", "FID", "AU", "ECG", "M3D"}
)

_HEAD = frozenset({"HEAD", "BRAIN", "SKULL", "HEADNECK", "ORBIT", "IAC", "FACE", "SELLA", "PITUITARY", "EYE", "EAR", "TMJ"})
_OTHER_PARTS = frozenset({
    "ABDOMEN", "ANKLE", "ARM", "BREAST", "CHEST", "CSPINE", "TSPINE", "LSPINE", "SSPINE", "SPINE", "ELBOW", "EXTREMITY",
    "FOOT", "HAND", "HEART", "HIP", "KNEE", "LEG", "LIVER", "KIDNEY", "PELVIS", "PROSTATE", "SHOULDER", "THORAX", "UTERUS",
    "WHOLEBODY", "WRIST",
})  # fmt: skip
BODY_PARTS = tuple(sorted(_HEAD | {"NECK"} | _OTHER_PARTS | {"OTHER"}))
"""What the `body_part` column may hold; OTHER is one that is named and not in this list."""
_MAKERS = {
    "siemens": "Siemens", "philips": "Philips", "ge ": "GE", "ge-": "GE", "general electric": "GE", "toshiba": "Canon", "canon": "Canon",
    "hitachi": "Hitachi", "fuji": "Fujifilm", "united imaging": "United Imaging", "uih": "United Imaging", "bruker": "Bruker",
    "esaote": "Esaote", "hyperfine": "Hyperfine", "marconi": "Philips", "picker": "Philips", "shimadzu": "Shimadzu",
}  # fmt: skip


def holds_no_picture(sop_class: str | None, modality: str | None) -> bool:
    """Whether an object is of a kind that has no picture of its own, by SOP class, else by Modality."""
    if sop_class and sop_class.startswith(_ROOT):
        return bool(_NO_PICTURE.match(sop_class[len(_ROOT) :]))
    return modality in _NO_PICTURE_MODALITIES


def manufacturer(text: str | None) -> str | None:
    """The family of a manufacturer; "other" for one that is not known here."""
    if not text:
        return None
    padded = text.lower().replace(".", "") + " "
    return next(
        (family for word, family in _MAKERS.items() if padded.startswith(word) or f" {word.strip()} " in f" {padded}"), "other"
    )


def body_part(text: str | None) -> str | None:
    """One of BODY_PARTS, None where none is named."""
    letters = re.sub(r"[^A-Z]", "", (text or "").upper())
    if not letters or letters in ("UNKNOWN", "NONE", "NA", "OTHER"):
        return None
    if letters in BODY_PARTS:
        return letters
    if any(
        word in letters
        for word in ("BRAIN", "HEAD", "SKULL", "CEREB", "CRANI", "KOPF", "SCHADEL", "NEURO", "TETE", "CABEZA", "ENCEPHAL")
    ):
        return "HEAD"
    if "NECK" in letters:
        return "NECK"
    return next((part for part in sorted(_OTHER_PARTS, key=len, reverse=True) if part in letters), "OTHER")


def is_head(part: str | None) -> bool:
    """Whether a body part is one that a head scan may name, or is not named at all."""
    return part is None or part in _HEAD or part == "NECK"


def names_an_agent(text: str) -> bool:
    """Whether ContrastBolusAgent names one, rather than saying that there was none."""
    return text.strip().lower() not in ("", "no", "none", "n", "0", "no contrast", "without", "nativ", "false")
