"""`btc-ray audit`: labelled images are looked at from all sides; out come a page, numbers and tables that say what they are worth."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from btc_ray import NOT_FOR_DIAGNOSIS, settings
from btc_ray.archive.reader import ByteReader
from btc_ray.commands.audit.inputs import Inputs, gather, read_backbone
from btc_ray.commands.audit.measures import ask_bundle, doubt_labels, estimate_planes, find_sources, probe
from btc_ray.dataset.check import say_classes
from btc_ray.dataset.data import read_data, shown_settings
from btc_ray.dataset.patients import with_patients
from btc_ray.dataset.pictures import LabelledPictures
from btc_ray.dataset.table import fingerprint, shown_source
from btc_ray.errors import COMPLETE
from btc_ray.model.bundle import library_versions, read_bundle
from btc_ray.progress import say
from btc_ray.storage import Place
from btc_ray.storage.outputs import check_output
from btc_ray.workers.session import ray_session

if TYPE_CHECKING:
    from btc_ray.reports.audit.record import Found

PAGE, RECORD, GROUPS, IMAGES = "audit.html", "audit.json", "groups.parquet", "images.parquet"
OURS = (PAGE, RECORD, GROUPS, IMAGES, ".*")


def audit(chosen: settings.Audit) -> int:
    """Audit; writes audit.html, audit.json, groups.parquet and images.parquet.

    Raises LabelledDataError, WeightsError, BundleError and DeviceError for unusable arguments, OutputError where the output holds
    something else.
    """
    began = time.monotonic()
    output = Place(chosen.output, chosen.storage())
    check_output(output, ours=OURS)
    bundle = None if chosen.model is None else read_bundle(output.at(chosen.model))
    backbone = read_backbone(chosen)
    data = output.at(chosen.data)
    table = read_data(chosen, least_classes=1)
    say_classes(table, data)
    table = with_patients(table, data, chosen.groups, keep_labels=chosen.keep_labels)
    with ray_session(chosen)():
        work = gather(chosen, table, backbone, bundle)
    record, found = _record(work)
    record["seconds"] = round(time.monotonic() - began, 1)
    _write(work, record, found)
    _print(record, output)
    return COMPLETE


def _record(work: Inputs) -> "tuple[dict[str, Any], Found]":
    """What audit.json holds, and what its tables are made from."""
    from btc_ray.reports.audit.conclusion import conclude
    from btc_ray.reports.audit.record import Found, describe_images, images_table

    say("Estimating viewing planes …")
    planes, plane_record = estimate_planes(work)
    doubts, label_record = doubt_labels(work)
    probes, sources = probe(work), find_sources(work)
    masking = ask_bundle(work)
    found = Found(
        labelled=work.table,
        outcomes=work.outcomes,
        properties=work.properties.table,
        copies=work.copies,
        readable=work.readable,
        planes=planes,
        doubts=doubts,
    )
    images = images_table(found)
    parts = describe_images(images, work.copies)
    parts["planes"] |= plane_record
    if doubts is not None:
        conflicting = np.array(images["conflicting_label"].to_pylist(), bool)[work.readable]
        label_record["conflicting"] = int(conflicting.sum())
        label_record["conflicting_suspected"] = int((conflicting & (doubts.suspected >= 0)).sum())
    record: dict[str, Any] = {
        "kind": "audit",
        "notice": NOT_FOR_DIAGNOSIS,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": {
            "source": shown_source(work.table, work.chosen.data),
            "fingerprint": fingerprint(work.table),
            "images": len(work.table),
            "readable": len(work.readable),
            "named_groups": len(work.table) - work.table["group"].null_count,
            "patients": _patients(work.table),
        },
        **parts,
        "probes": probes,
        "sources": sources,
        "labels": label_record,
        "masking": masking,
        "versions": library_versions(),
        "settings": shown_settings(work.chosen, work.table),
    }
    record["counts"] = _counts(record)
    record = {"verdict": conclude(record)} | record
    return record, found


def _counts(record: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers that scripts ask for, in one place."""
    copies = record["copies"]
    names = (
        "test_images", "training_images", "test_images_with_copy_in_training", "images_with_a_copy", "groups",
        "groups_with_conflicting_labels", "images_with_conflicting_labels",
    )  # fmt: skip
    return {
        "images": record["data"]["images"],
        "unreadable": record["data"]["images"] - record["data"]["readable"],
        **{name: copies[name] for name in names},
        "doubtful_crops": record["crops"]["doubtful"],
        "suspected_labels": record["labels"].get("suspected"),
    }


def _patients(table: pa.Table) -> dict[str, int]:
    """Named groups (patients), and test images whose group is named, and of those the ones whose group is in training too."""
    group, split = np.array(table["group"].to_pylist(), object), np.array(table["split"].to_pylist(), object)
    named = np.array([name is not None for name in group], bool)
    test, train = named & (split == "test"), set(group[named & (split == "train")].tolist())
    return {
        "named": len(set(group[named].tolist())),
        "images": int(named.sum()),
        "test_images": int(test.sum()),
        "test_images_with_patient_in_training": sum(name in train for name in group[test].tolist()),
    }


def _write(work: Inputs, record: Mapping[str, Any], found: "Found") -> None:
    """The files of an audit; the page, which tells of all others, comes last."""
    from btc_ray.reports.audit.page import write_audit
    from btc_ray.reports.audit.record import groups_table, images_table

    say("Writing the page …")
    output = Place(work.chosen.output, work.chosen.storage())
    (output / PAGE).remove()  # it told of what was found before
    images = images_table(found)
    (output / IMAGES).write_table(images)
    (output / GROUPS).write_table(groups_table(images))
    (output / RECORD).write_json(record)
    pictures = LabelledPictures(work.table, ByteReader(output.options))
    place = {int(row): number for number, row in enumerate(work.readable)}
    page = write_audit(
        record,
        images,
        crop_of=lambda row: pictures.crop(row, work.crops.pixels[place[row]]),
        read_image=pictures,
        shown=work.chosen.shown,
    )
    (output / PAGE).write(page.encode())


def _print(record: Mapping[str, Any], output: Place) -> None:
    """The verdict and where the rest is, on stdout."""
    print(record["verdict"]["headline"])
    for title, key in (("cannot mean", "cannot"), ("can mean", "can"), ("also", "notes")):
        for sentence in record["verdict"][key]:
            print(f"  {title + ':':<12} {sentence}")
    for name, file in (("page", PAGE), ("numbers", RECORD), ("images", IMAGES), ("groups", GROUPS)):
        print(f"{name:<12} {output / file}")
