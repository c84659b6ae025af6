"""`btc-ray audit`: labelled images are looked at from all sides; out come a page, numbers and tables that say what they are worth."""

import json
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from btc_ray import NOT_FOR_DIAGNOSIS, settings
from btc_ray.archive import storage
from btc_ray.archive.reader import ByteReader
from btc_ray.archive.tables import read_table, write_table
from btc_ray.chains import COMPLETE, check_output, ray_session
from btc_ray.dataset.table import class_names, fingerprint, read_labelled
from btc_ray.model.bundle import Bundle, library_versions, read_bundle
from btc_ray.progress import say

if TYPE_CHECKING:
    from torch import Tensor

    from btc_ray.dataset.crops import Crops
    from btc_ray.review.audit import Found
    from btc_ray.review.label_doubts import Doubts
    from btc_ray.review.probes import Sides

PAGE, RECORD, GROUPS, IMAGES = "audit.html", "audit.json", "groups.parquet", "images.parquet"
OURS = (PAGE, RECORD, GROUPS, IMAGES, ".*")
VALIDATION, TEST = settings.Training.validation, settings.Training.test  # the split by group is that of `retrain`


def audit(chosen: settings.Audit) -> int:
    """Audit; writes audit.html, audit.json, groups.parquet and images.parquet.

    Raises LabelledDataError, WeightsError, BundleError and DeviceError for unusable arguments, OutputError where the output holds
    something else.
    """
    began = time.monotonic()
    options = chosen.storage()
    check_output(chosen.output, options, ours=OURS)
    bundle = None if chosen.model is None else read_bundle(chosen.model, options)
    backbone = _backbone(chosen)
    table = read_labelled(chosen.data, options, least_classes=1)
    with ray_session(chosen)():
        work = _Work(chosen, table, backbone, bundle)
    record, found = _record(work)
    record["seconds"] = round(time.monotonic() - began, 1)
    _write(work, record, found)
    _print(record, chosen.output)
    return COMPLETE


def _backbone(chosen: settings.Audit) -> "dict[str, Tensor] | None":
    """The frozen backbone's state, read first so that what is missing is said at once; None for --weights none."""
    if chosen.weights == "none":
        return None
    from btc_ray.model.weights import initial_network

    return dict(initial_network(chosen.weights, 2, seed=0, storage_options=chosen.storage()).state_dict())


class _Work:
    """What Ray makes: N rows of the listing, M images that have a picture."""

    def __init__(
        self, chosen: settings.Audit, table: pa.Table, backbone: "dict[str, Tensor] | None", bundle: Bundle | None
    ) -> None:
        from btc_ray.dataset.crops import labelled_crops, outcomes
        from btc_ray.dataset.groups import join_groups
        from btc_ray.dataset.labelled import COMPARED, labelled_copies
        from btc_ray.dataset.properties import image_properties
        from btc_ray.images.prepare import Preprocess

        options, cache = chosen.storage(), storage.absolute(chosen.cache_uri())
        self.chosen, self.table, self.bundle, self.classes = chosen, table, bundle, class_names(table)
        self.properties = image_properties(table, cache=cache, storage_options=options)
        self.copies = labelled_copies(table, cache=cache, storage_options=options)
        self.crops = labelled_crops(table, preprocess=COMPARED, cache=cache, storage_options=options)
        self.outcomes = outcomes(self.crops, options)
        self.readable = np.searchsorted(table["row_id"].to_numpy(), self.crops.rows["row_id"].to_numpy())
        self.labels = np.searchsorted(self.classes, self.crops.rows["label"].to_pylist())
        self.split = np.array(table["split"].to_pylist(), object)
        self.groups = join_groups(self.copies.groups, table["group"].to_pylist())
        self.features = None
        if backbone is not None and len(self.readable) and len(self.classes) > 1:
            from btc_ray.training.features import frozen_features

            self.features = frozen_features(self.crops, backbone, flips=False, cache=cache, storage_options=options)[:, 0]
        self.asked: Crops | None = None
        self.asked_of = ""
        if bundle is not None:
            rows, self.asked_of = _sample(chosen, table, bundle, self.crops)
            if len(rows):
                preprocess = Preprocess.from_dict(bundle.preprocess)
                self.asked = labelled_crops(table.take(rows), preprocess=preprocess, cache=cache, storage_options=options)


def _sample(chosen: settings.Audit, table: pa.Table, bundle: Bundle, crops: "Crops") -> tuple[np.ndarray, str]:
    """Rows of the images that the bundle is asked about, rising, and what they are: unseen ones, as far as that is recorded."""
    from btc_ray.review.masking import MOST

    known = np.isin(np.array(crops.rows["label"].to_pylist()), bundle.classes)
    split_uri = storage.join(chosen.model or "", "split.parquet")
    wanted, what = known & (np.array(crops.rows["split"].to_pylist(), object) == "test"), "published test images"
    if storage.exists(split_uri, chosen.storage()):
        record = read_table(split_uri, chosen.storage())
        held = {
            sha
            for sha, side in zip(record["content_sha256"].to_pylist(), record["split"].to_pylist(), strict=True)
            if side == "test"
        }
        own = known & np.array([sha in held for sha in crops.rows["content_sha256"].to_pylist()], bool)
        if own.any():
            wanted, what = own, "images that the bundle's record says it was not trained on"
    if not wanted.any():
        wanted, what = known, "images of all, for the data names no test images and the bundle knows none of them as held out"
    rows = np.flatnonzero(wanted)
    if len(rows) > MOST:
        rows = np.sort(np.random.default_rng(chosen.seed).choice(rows, MOST, replace=False))
        what = f"{MOST:,} of {wanted.sum():,} {what}, drawn at random"
    return np.searchsorted(table["row_id"].to_numpy(), crops.rows["row_id"].to_numpy()[rows]), what


def _record(work: _Work) -> "tuple[dict[str, Any], Found]":
    """What audit.json holds, and what its tables are made from."""
    from btc_ray.review.audit import Found, describe_images, images_table
    from btc_ray.review.audit_verdict import verdict

    say("Estimating viewing planes …")
    planes, plane_record = _planes(work)
    doubts, label_record = _doubts(work)
    probes = _probes(work)
    masking = _masking(work)
    found = Found(
        labelled=work.table,
        outcomes=work.outcomes,
        properties=work.properties,
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
            "source": storage.redact(work.chosen.data),
            "fingerprint": fingerprint(work.table),
            "images": len(work.table),
            "readable": len(work.readable),
            "named_groups": len(work.table) - work.table["group"].null_count,
        },
        **parts,
        "probes": probes,
        "labels": label_record,
        "masking": masking,
        "versions": library_versions(),
        "settings": settings.to_dict(work.chosen) | {"data": storage.redact(work.chosen.data)},
    }
    record["counts"] = _counts(record)
    record = {"verdict": verdict(record)} | record
    return record, found


def _planes(work: _Work) -> tuple[np.ndarray, dict[str, Any]]:
    from btc_ray.review.planes import fit_planes, plane_features

    if not len(work.readable):
        return np.zeros((0, 3)), {"on_phantoms": None}
    model = fit_planes(seed=work.chosen.seed)
    found = model.probabilities(plane_features(work.crops.pixels))
    return found, {"on_phantoms": {"accuracy": model.accuracy, "by_plane": model.by_plane}}


def _doubts(work: _Work) -> "tuple[Doubts | None, dict[str, Any]]":
    from btc_ray.review.label_doubts import doubtful_labels, held_out_probabilities

    if work.features is None:
        reason = "--weights none" if work.chosen.weights == "none" else "needs images of two classes"
        return None, {"reason": reason}
    say("Looking for labels that may be wrong …")
    groups = work.groups[work.readable]
    probabilities = held_out_probabilities(work.features, work.labels, groups, len(work.classes), seed=work.chosen.seed)
    if probabilities is None:
        return None, {"reason": "needs at least two groups of images of each class"}
    doubts = doubtful_labels(probabilities, work.labels)
    pairs = Counter(
        (work.classes[label], work.classes[other])
        for label, other in zip(work.labels.tolist(), doubts.suspected.tolist(), strict=True)
        if other >= 0
    )
    return doubts, {
        "images": len(work.labels),
        "agreement": float((probabilities.argmax(axis=1) == work.labels).mean()),
        "suspected": int((doubts.suspected >= 0).sum()),
        "pairs": [{"label": label, "suspected": other, "images": count} for (label, other), count in pairs.most_common()],
    }


def _probes(work: _Work) -> dict[str, Any]:
    from btc_ray.dataset.properties import frames_of, histograms_of
    from btc_ray.review.probes import run_probes

    described = np.array(work.properties["format"].is_valid())[work.readable]  # read twice, and readable both times
    rows, labels = work.readable[described], work.labels[described]
    sides, missing, division = _sides(work, rows, labels)
    probes: list[dict[str, Any]] = []
    if sides:
        properties = work.properties.take(rows)
        train = work.split[rows] == "train"
        probes = run_probes(
            frames_of(properties),
            histograms_of(properties),
            labels,
            work.groups[rows],
            sides,
            np.isin(work.copies.groups[rows], work.copies.groups[rows][train]),
            work.classes,
            seed=work.chosen.seed,
            told=lambda title: say(f"Probe: {title} …"),
        )
    return {"probes": probes, "missing": missing, "group_split": division}


def _sides(work: _Work, rows: np.ndarray, labels: np.ndarray) -> "tuple[dict[str, Sides], dict[str, str], dict[str, Any]]":
    """The divisions there are, why others are missing, and the size of the split by group."""
    from btc_ray.dataset.copies import contradicting
    from btc_ray.dataset.split import SplitError, split_by_group
    from btc_ray.review.probes import CLEAN, GROUP, PUBLISHED, Sides

    sides: dict[str, Sides] = {}
    missing: dict[str, str] = {}
    if len(np.unique(labels)) < 2:
        reason = "needs readable images of two classes"
        return {}, dict.fromkeys((PUBLISHED, CLEAN, GROUP), reason), {"reason": reason}
    train, test = (work.split[rows] == name for name in ("train", "test"))
    if train.any() and test.any():
        sides[PUBLISHED] = Sides(train=train, test=test)
    else:
        missing |= dict.fromkeys((PUBLISHED, CLEAN), "the data does not say which images train and which test")
    groups = work.groups[rows]
    clashing = contradicting(work.copies.groups[rows], labels)
    names = [work.classes[label] for label in labels]
    try:
        split = split_by_group(names, np.where(clashing, -1, groups), validation=VALIDATION, test=TEST, seed=work.chosen.seed)
    except SplitError as error:
        return sides, missing | {GROUP: str(error)}, {"reason": str(error)}
    held = split == "test"
    sides[GROUP] = Sides(train=np.isin(split, ("train", "validation")), test=held)
    division = {"train": int(sides[GROUP].train.sum()), "test": int(held.sum()), "test_groups": len(np.unique(groups[held]))}
    return sides, missing, division


def _masking(work: _Work) -> dict[str, Any]:
    from btc_ray.model.bundle import read_weights
    from btc_ray.model.engine import TorchEngine
    from btc_ray.review.masking import ask_masked

    if work.bundle is None or work.chosen.model is None:
        return {"reason": "no --model was given"}
    if work.asked is None or not len(work.asked.pixels):
        return {"reason": "no readable image has a label that the bundle knows"}
    say("Asking the bundle about masked images …")
    state = read_weights(work.chosen.model, work.bundle, work.chosen.storage())
    engine = TorchEngine(work.bundle, state, device=work.chosen.device, precision=work.chosen.precision)
    labels = work.asked.rows["label"].to_pylist()
    found = ask_masked(engine.probabilities, work.asked.pixels, labels, work.bundle.classes)
    return found | {
        "model": storage.redact(work.chosen.model),
        "model_id": work.bundle.model_id,
        "classes": list(work.bundle.classes),
        "asked": work.asked_of,
        "chance": max(Counter(labels).values()) / len(labels),
    }


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


def _write(work: _Work, record: Mapping[str, Any], found: "Found") -> None:
    """The files of an audit; the page, which tells of all others, comes last."""
    from btc_ray.review.audit import groups_table, images_table
    from btc_ray.review.audit_page import write_audit

    say("Writing the page …")
    output, options = work.chosen.output, work.chosen.storage()
    storage.remove_tree(storage.join(output, PAGE), options)  # it told of what was found before
    images = images_table(found)
    write_table(storage.join(output, IMAGES), images, options)
    write_table(storage.join(output, GROUPS), groups_table(images), options)
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    storage.write_bytes(storage.join(output, RECORD), text.encode("utf-8", "replace"), options)
    reader, place = ByteReader(options), {int(row): number for number, row in enumerate(work.readable)}
    page = write_audit(
        record,
        images,
        crop_of=lambda row: work.crops.pixels[place[row]],
        read_image=lambda row: reader.read(work.table.slice(row["row_id"], 1).to_pylist()[0]),
        shown=work.chosen.shown,
    )
    storage.write_bytes(storage.join(output, PAGE), page.encode(), options)


def _print(record: Mapping[str, Any], output: str) -> None:
    """The verdict and where the rest is, on stdout."""
    print(record["verdict"]["headline"])
    for title, key in (("cannot mean", "cannot"), ("can mean", "can"), ("also", "notes")):
        for sentence in record["verdict"][key]:
            print(f"  {title + ':':<12} {sentence}")
    for name, file in (("page", PAGE), ("numbers", RECORD), ("images", IMAGES), ("groups", GROUPS)):
        print(f"{name:<12} {storage.join(output, file)}")
