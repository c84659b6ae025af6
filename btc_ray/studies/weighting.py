"""T1, T2, FLAIR, PD …: the weighting of a series, from its times first, from words only where times are missing."""

import re

WEIGHTINGS = ("t1", "t2", "flair", "pd", "t2star")
_WORDS = (
    ("flair", re.compile(r"flair|dark.?fluid|tirm")),
    ("t2star", re.compile(r"t2\*|t2.?star|swi|swan|gre.?hemo|t2s(?![a-z])|veno.?bold")),
    ("t1", re.compile(r"t1|mp.?rage|bravo|spgr|tfl3d|vibe")),
    ("t2", re.compile(r"t2|haste|ciss|fiesta")),
    ("pd", re.compile(r"(?<![a-z])pd|proton")),
)
_SUFFIXES = {
    "T1w": "t1",
    "T2w": "t2",
    "FLAIR": "flair",
    "PDw": "pd",
    "T2starw": "t2star",
    "T2star": "t2star",
    "inplaneT1": "t1",
    "inplaneT2": "t2",
}


def weighting_of(
    *, te_ms: float | None, tr_ms: float | None, ti_ms: float | None, scanning_sequence: str | None, suffix: str | None, text: str
) -> str | None:
    """One of WEIGHTINGS, or None where nothing tells. Times in ms."""
    if te_ms and tr_ms:
        return _by_times(te_ms, tr_ms, ti_ms or 0, set((scanning_sequence or "").split("\\")))
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    return next((weighting for weighting, word in _WORDS if word.search(text)), None)


def _by_times(te: float, tr: float, ti: float, sequences: set[str]) -> str:
    if ti >= 1500 and tr >= 4000 and te >= 60:
        return "flair"
    if "GR" in sequences and "SE" not in sequences:
        return "t2star" if te >= 14 else "t1"
    if 150 < ti < 1500 and te < 60:
        return "t1"  # T1 FLAIR, inversion-prepared T1
    if te >= 60:
        return "t2"
    return "t1" if tr < 1600 else "pd"
