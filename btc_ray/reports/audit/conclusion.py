"""The verdict of an audit in plain words, each sentence from the numbers that were found: what a test score can and cannot mean."""

from collections.abc import Mapping
from typing import Any

from btc_ray.reports.audit.probes import CLEAN, GROUP, PUBLISHED
from btc_ray.reports.audit.record import DOUBTFUL
from btc_ray.reports.audit.sources import sentences
from btc_ray.reports.shared.bootstrap import wilson

CLEAR = 0.1  # how far above the share of the largest class a probe's interval must begin to count as a shortcut
UNEVEN = 0.25  # how far apart the classes' shares of a plane must lie to be told
ENOUGH = 30  # images; a score on fewer says next to nothing
_NOT_LESION = ("histogram", "border", "silhouette", "thumbnail")


def conclude(record: Mapping[str, Any]) -> dict[str, Any]:
    """`headline`, and the sentences `cannot` and `can`: what a test score on this data cannot and can mean; and `notes`."""
    if not record["data"]["readable"]:
        none = f"None of the {record['data']['images']:,} images can be read"
        return {"headline": none, "cannot": ["There is nothing to score."], "can": [], "notes": _files(record)}
    if len(record["classes"]) < 2:
        only, images = record["classes"][0]["name"], record["data"]["images"]
        return {
            "headline": f"All {images:,} images are labelled {only}" if images > 1 else f"The only image is labelled {only}",
            "cannot": ["A score of telling classes apart needs two classes; there is nothing to be wrong about."],
            "can": [],
            "notes": [*_repeated(record), *_files(record)],
        }
    memory, shortcuts, planes = _memory(record), _shortcuts(record), _planes(record)
    sources = sentences(record["sources"]) if "sources" in record else []
    cannot = [
        *memory,
        *_conflicts(record),
        *sources,
        *shortcuts,
        *_told_by_file(record),
        *planes,
        *_masked(record),
        *_patients(record),
    ]
    return {
        "headline": _headline(record, bool(shortcuts)),
        "cannot": cannot,
        "can": _can(record),
        "notes": [*_repeated(record), *_labels(record), *_crops(record), *_files(record)],
    }


def _headline(record: Mapping[str, Any], shortcuts: bool) -> str:
    copies = record["copies"]
    if copies["test_images_with_copy_in_training"]:
        share = copies["test_images_with_copy_in_training"] / copies["test_images"]
        word = "mostly measures" if share >= 0.5 else "measures in part"
        return f"A score on the published test set {word} memory: {share:.0%} of its images have a copy in training"
    if shortcuts:
        key, found = _best(record)
        return (
            f"The classes can be told apart without a look at a lesion: {_NAME[key]} gets {found['accuracy']['value']:.0%} right"
        )
    if copies["groups_with_conflicting_labels"]:
        return f"{_count(copies['images_with_conflicting_labels'], 'image')} bear labels that contradict each other"
    return "Nothing was found here that would make a test score worthless"


def _memory(record: Mapping[str, Any]) -> list[str]:
    copies = record["copies"]
    copied, test = copies["test_images_with_copy_in_training"], copies["test_images"]
    if not copied:
        return []
    kinds = [f"{count:,} {_KIND[kind]}" for kind, count in copies["test_images_with_copy_in_training_by_kind"].items() if count]
    sentences = [
        f"How a model does on images it has not seen: {copied:,} of {test:,} test images ({copied / test:.1%}) have a copy in "
        f"training (the closest one: {_listed(kinds)})."
    ]
    near = _results(record, "neighbour")
    if PUBLISHED in near:
        sentences[0] += (
            f" To name the class of the nearest training image in raw pixels already gets {_share(near[PUBLISHED])} right."
        )
    return sentences


def _conflicts(record: Mapping[str, Any]) -> list[str]:
    copies = record["copies"]
    images, groups = copies["images_with_conflicting_labels"], copies["groups_with_conflicting_labels"]
    if not groups:
        return []
    tested = copies["test_images_with_conflicting_labels"]
    text = (
        f"The truth about {_count(images, 'image')} in {_count(groups, 'group')}: a copy of each has another label, and one of the "
        "two is wrong"
    )
    return [f"{text}; {tested:,} of them are test images." if copies["test_images"] else f"{text}."]


def _shortcuts(record: Mapping[str, Any]) -> list[str]:
    clear = [(key, found) for key in _NOT_LESION if (found := _asked(record, key)) is not None and _is_clear(found)]
    if not clear:
        return []
    shares = [f"{_NAME[key]} {_share(found)}" for key, found in sorted(clear, key=lambda one: -one[1]["accuracy"]["value"])]
    return [
        f"That a model has looked at the lesion: without it, {_listed(shares)} get right, where always guessing the largest class would "
        f"get {clear[0][1]['chance']:.1%} ({_where(record)})."
    ]


def _told_by_file(record: Mapping[str, Any]) -> list[str]:
    properties, readable = record["properties"], record["data"]["readable"]
    clear = {
        name: share
        for name, share in properties["alone"].items()
        if share > record["planes"]["chance"] + CLEAR
        and readable >= ENOUGH * len(properties[name])  # few images of a kind fit by chance
    }
    if not clear:
        return []
    name = max(clear, key=lambda one: clear[one])
    return [
        f"That the picture was needed at all: {_FILE[name]} alone, before a pixel is looked at, gets {clear[name]:.1%} right, so the "
        "classes come from different sources."
    ]


def _planes(record: Mapping[str, Any]) -> list[str]:
    planes = record["planes"]
    best: tuple[float, str] | None = None
    for place, plane in enumerate(planes["columns"][:-1]):
        shares = {name: counts[place] / sum(counts) for name, counts in planes["by_class"].items() if sum(counts) >= ENOUGH}
        if len(shares) < 2:
            continue
        low, high = min(shares, key=lambda name: shares[name]), max(shares, key=lambda name: shares[name])
        apart = shares[high] - shares[low]
        if apart >= UNEVEN and (best is None or apart > best[0]):
            best = apart, f"{shares[high]:.0%} of {high} look {plane}, but {shares[low]:.0%} of {low}"
    if best is None:
        return []
    return [
        f"That a model tells lesions rather than views: {best[1]}. To know the estimated plane alone gets "
        f"{planes['accuracy_from_plane_alone']:.1%} right."
    ]


def _masked(record: Mapping[str, Any]) -> list[str]:
    masking = record["masking"]
    if not masking.get("images"):
        return []
    whole = masking["rows"][0]
    blind = next(row for row in masking["rows"] if row["kind"] == "without_centre" and row["share"] == 0.5)
    if blind["accuracy"]["low"] is None or blind["accuracy"]["low"] < masking["chance"] + CLEAR:
        return []
    return [
        f"That this bundle needs the middle of the picture: with half of the width and height painted over there it still gets "
        f"{blind['accuracy']['value']:.1%} of {masking['images']:,} images right (whole: {whole['accuracy']['value']:.1%})."
    ]


def _patients(record: Mapping[str, Any]) -> list[str]:
    if record["data"]["named_groups"]:
        found = record["data"].get("patients")
        if not found or not found["test_images_with_patient_in_training"]:
            return []
        return [
            f"How a model does on new patients, by the published split: {found['test_images_with_patient_in_training']:,} of the "
            f"{found['test_images']:,} test images whose patient is named show one who is in training too."
        ]
    return [
        "How a model does on new patients or at another hospital: the data names no patients, so slices of one may stand on both sides "
        "of any split (--groups, or a column named group in a table, keeps them together)."
    ]


def _can(record: Mapping[str, Any]) -> list[str]:
    copies = record["copies"]
    sentences = []
    clean = copies["test_images"] - copies["test_images_with_copy_in_training"]
    if copies["test_images"] and clean >= ENOUGH:
        sentences.append(
            f"How a model trained on the published training images does on {clean:,} other pictures of the same collections: the "
            f"published test images without a copy there{_precision(clean)}."
        )
    elif copies["test_images"]:
        sentences.append(
            f"Next to nothing on the published split: {_count(clean, 'test image')} without a copy in training remain."
        )
    division = record["probes"]["group_split"]
    if division.get("test", 0) >= ENOUGH:
        sentences.append(
            f"The same on a split by group (--split group, the default of retrain), where the copies of an image stay on one side: "
            f"{division['test']:,} test images in {division['test_groups']:,} groups{_precision(division['test_groups'])}."
        )
    if chance := _asked(record, "histogram"):
        key, found = _best(record)
        least = max(chance["chance"], found["accuracy"]["value"])
        sentences.append(f"Something about lesions only as far as it lies above {least:.1%}, what {_NAME[key]} reaches.")
    return sentences


def _precision(images: int) -> str:
    found = wilson(round(0.95 * images), images)
    return f" (an accuracy of 95% would be known to within {100 * (found['high'] - found['low']) / 2:.1f} points)"


def _repeated(record: Mapping[str, Any]) -> list[str]:
    copies, images = record["copies"], record["data"]["images"]
    if not copies["groups_of_several"]:
        return ["No image is a copy of another."] if images > 1 else []
    return [
        f"The {images:,} images are {copies['groups']:,} different ones; the largest group has {copies['largest_group']:,} images."
    ]


def _labels(record: Mapping[str, Any]) -> list[str]:
    labels = record["labels"]
    if not labels.get("suspected"):
        return []
    return [
        f"{_count(labels['suspected'], 'label')} ({labels['suspected'] / labels['images']:.1%}) may be wrong: a list to look "
        f"through, not of errors, for a head on frozen features agrees with {labels['agreement']:.1%} of all labels only."
    ]


def _crops(record: Mapping[str, Any]) -> list[str]:
    crops, readable = record["crops"], record["data"]["readable"]
    if not crops["doubtful"]:
        return []
    return [
        f"{_count(crops['doubtful'], 'crop')} ({crops['doubtful'] / readable:.1%}) are doubtful (doubt of {DOUBTFUL:g} or more)."
    ]


def _files(record: Mapping[str, Any]) -> list[str]:
    bad = record["data"]["images"] - record["data"]["readable"]
    return [f"{_count(bad, 'file')} cannot be read."] if bad else []


_NAME = {
    "histogram": "a grey histogram",
    "border": "the border of the frame",
    "silhouette": "the head's outline",
    "thumbnail": "a thumbnail of 8 × 8 pixels",
    "neighbour": "the nearest raw image",
}
_FILE = {"size": "the size of the image", "mode": "whether the file is stored in grey or colour", "format": "the file format"}
_KIND = {
    "same file": "the same file",
    "same pixels": "with the same pixels",
    "re-encoded": "re-encoded",
    "mirrored": "mirrored",
    "turned": "turned",
}


def _results(record: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The divisions on which a probe has an accuracy."""
    for probe in record["probes"]["probes"]:
        if probe["key"] == key:
            return {name: found for name, found in probe["results"].items() if "accuracy" in found}
    return {}


def _asked(record: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    """A probe's result where copies help least: by group, else the published one."""
    results = _results(record, key)
    return results.get(GROUP) or results.get(CLEAN) or results.get(PUBLISHED)


def _where(record: Mapping[str, Any]) -> str:
    results = _results(record, "histogram")
    if GROUP in results:
        return f"{results[GROUP]['images']:,} test images of a split by group"
    return "published test images" + (" without a copy" if CLEAN in results else "")


def _best(record: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    found = [(key, one) for key in _NOT_LESION if (one := _asked(record, key)) is not None]
    return max(found, key=lambda one: one[1]["accuracy"]["value"])


def _is_clear(found: Mapping[str, Any]) -> bool:
    low = found["accuracy"]["low"]
    return low is not None and low > found["chance"] + CLEAR


def _share(found: Mapping[str, Any]) -> str:
    return f"{found['accuracy']['value']:.1%}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
