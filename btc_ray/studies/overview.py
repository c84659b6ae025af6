"""What is known of an archive once its headers are read: its series and whose they are, under pseudonyms, before a pixel is looked at."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from btc_ray.storage import Place
from btc_ray.storage.tables import to_bytes
from btc_ray.studies.grouping import Grouped, group
from btc_ray.studies.keys import Pseudonyms, open_key, write_private
from btc_ray.studies.selection import Wanted
from btc_ray.studies.tables import keys_of

Privacy = Literal["auto", "on", "off"]
STUDIES = ("dicom", "nifti")


@dataclass(frozen=True, kw_only=True)
class Studies:
    """Attributes:
    index: of the files that may be DICOM or NIfTI, as `candidates` makes it; None where no name allows for one.
    grouped: its series; None where there are none.
    pseudonyms: what keys are made with; None where there is nothing to name by a key.
    private: whether paths and identities stand in private files only.
    """

    index: pa.Table | None = None
    grouped: Grouped | None = None
    pseudonyms: Pseudonyms | None = None
    private: bool = False

    def counts(self) -> dict[str, Any]:
        """How many series and exams there are, how many series are selected and how, and why the others are not; empty without any."""
        if self.grouped is None:
            return {}
        without, exams = self.grouped.exams_without_series
        selected = [one for one in self.grouped.selected.values() if one.selected]
        return {
            "series": len(self.grouped.facts),
            "series_selected": len(selected),
            "series_by_fallback": sum(one.by == "fallback" for one in selected),
            "unselected": self.grouped.unselected,
            "exams": exams,
            "exams_without_series": without,
            "empty_slices": self.grouped.empty,
            "files_without_series": sum(name.startswith("file\0") and one.dicom for name, one in self.grouped.facts.items()),
        }


def overview(
    index: pa.Table | None, wanted: Wanted, *, privacy: Privacy, key_file: Place | None = None, private_folder: Place
) -> Studies:
    """Group an index and select from it.

    Args:
        privacy: auto is on as soon as one file is DICOM.
        key_file: of pseudonyms; None: that of the environment, else one of its own in `private_folder`.

    Raises PseudonymKeyError.
    """
    medical = index is not None and bool(pc.any(pc.is_in(index["kind"], pa.array(STUDIES))).as_py())
    dicom = index is not None and bool(pc.any(pc.equal(index["kind"], "dicom")).as_py())
    private = privacy == "on" or (privacy == "auto" and dicom)
    if not (private or medical):
        return Studies(index=index)
    pseudonyms = open_key(file=key_file, private=private_folder)
    if not medical:
        return Studies(index=index, pseudonyms=pseudonyms, private=private)
    assert index is not None
    usable = pc.and_(pc.is_in(index["kind"], pa.array(STUDIES)), pc.is_null(index["problem"]))
    grouped = group(index, wanted, usable=np.asarray(usable))  # no copy of it: the index is most of the memory
    return Studies(index=index, grouped=grouped, pseudonyms=pseudonyms, private=private)


def write_crosswalk(studies: Studies, place: Place) -> None:
    """Which key stands for which series, exam and patient, and what labels may call them (`uri`: one of its files): a private file."""
    grouped, pseudonyms = studies.grouped, studies.pseudonyms
    if grouped is None or pseudonyms is None or studies.index is None:
        return
    series = grouped.frames["series"].combine_chunks().dictionary_encode()
    _, first = np.unique(np.asarray(series.indices), return_index=True)  # in the order of the dictionary
    files = pc.index_in(grouped.frames["file_id"].take(pa.array(first)), value_set=studies.index["file_id"])
    named = studies.index.select(["uri", "study_uid", "patient_id"]).take(files).to_pylist()
    about = dict(zip(series.dictionary.to_pylist(), named, strict=True))
    rows = [
        {
            "series": name,
            "exam": grouped.people.exam[name],
            "patient": grouped.people.patient[name],
            **keys_of(name, grouped, pseudonyms),
            **about[name],
        }
        for name in grouped.facts
    ]
    write_private(place, to_bytes(pa.Table.from_pylist(rows)))
