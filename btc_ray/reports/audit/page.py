"""`audit.html`: the record of an audit as one page for a person, with everything in it and nothing fetched from anywhere."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from btc_ray import NOT_FOR_DIAGNOSIS
from btc_ray.dataset.kinds import KINDS
from btc_ray.phantoms.phantom import VIEWS
from btc_ray.reports.audit.label_doubts import MOST_FITTED
from btc_ray.reports.audit.probes import CLEAN, GROUP, PUBLISHED
from btc_ray.reports.audit.record import DOUBTFUL, SURE
from btc_ray.reports.shared.figures import jpeg, thumbnail
from btc_ray.reports.shared.page import PALETTE, ReadImage, as_source, file_name, picture, render

MEMBERS = 6  # of a group shown; the others are counted
SIDE = 128  # px of a picture: 4 KB
_DIVISIONS = {
    PUBLISHED: "Published split",
    CLEAN: "of these, without a copy in training",
    GROUP: "Split by group",
}

CropOf = Callable[[int], np.ndarray]


def write_audit(record: Mapping[str, Any], images: pa.Table, *, crop_of: CropOf, read_image: ReadImage, shown: int) -> str:
    """The page as HTML text; the caller writes the file, as UTF-8.

    Args:
        record: what audit.json holds.
        images: `audit.IMAGES`, row_id being the position.
        crop_of: position of a readable image → its crop, uint8 (S, S).
        read_image: the bytes of the image of a row of `images`; what it raises becomes a placeholder.
        shown: pictures, or groups, in each part at most.
    """
    return render(
        "audit.html.j2",
        filters={
            "percent": _percent,
            "share": lambda part, whole: _percent(part / whole if whole else None),
            "interval": _interval,
            "grey": lambda value: "–" if value is None else f"{value:.0f}",
        },
        notice=NOT_FOR_DIAGNOSIS,
        record=record,
        tiles=_tiles(record),
        facts=_facts(record),
        divisions=_DIVISIONS,
        most_fitted=MOST_FITTED,
        kinds=KINDS,
        conflicts=_groups(images, _conflicting(images), crop_of, shown),
        copied=[
            (kind, groups) for kind in KINDS if (groups := _copied(images, kind, crop_of, max(1, shown // 4) if shown else 0))
        ],
        crops=_crops(images, crop_of, read_image, shown),
        doubtful=DOUBTFUL,
        planes=_planes(images, crop_of, shown),
        sure=SURE,
        suspects=_suspects(images, crop_of, shown),
        palette=PALETTE,
        colours=len(PALETTE),
    )


def _tiles(record: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The numbers at the top: value, what it is, and the part that tells more."""
    copies, counts = record["copies"], record["counts"]
    tiles = []
    if copies["test_images"]:
        share = copies["test_images_with_copy_in_training"] / copies["test_images"]
        tiles.append((f"{share:.1%}", f"of {copies['test_images']:,} test images have a copy in training", "copies"))
    share = copies["images_with_a_copy"] / counts["images"]
    tiles.append((f"{share:.1%}", f"of all {counts['images']:,} images have a copy", "copies"))
    tiles.append((f"{copies['images_with_conflicting_labels']:,}", "images have a copy with another label", "conflicts"))
    best = [
        (found["accuracy"]["value"], probe["title"])
        for probe in record["probes"]["probes"]
        if "accuracy" in (found := probe["results"].get(GROUP, {})) and probe["key"] != "neighbour"
    ]
    if best:
        value, title = max(best)
        tiles.append((f"{value:.1%}", f"right without a look at a lesion ({title.lower()})", "probes"))
    if counts["suspected_labels"] is not None:
        tiles.append((f"{counts['suspected_labels']:,}", "labels to look at again", "labels"))
    tiles.append((f"{counts['doubtful_crops']:,}", "doubtful crops", "crops"))
    tiles.append((f"{counts['unreadable']:,}", "files that cannot be read", "files"))
    return tiles


def _facts(record: Mapping[str, Any]) -> dict[str, str]:
    data = record["data"]
    named = f"{data['named_groups']:,} images" if data["named_groups"] else "none"
    return {
        "When": record["created"],
        "Data": data["source"],
        "Data fingerprint": data["fingerprint"],
        "Images": f"{data['images']:,}, of which {data['images'] - data['readable']:,} cannot be read",
        "Groups named by the data (patients)": named,
        "Time": f"{record['seconds']:,.0f} s",
    }


def _rows(images: pa.Table, positions: Iterable[int]) -> list[dict[str, Any]]:
    return images.take(pa.array(list(positions), pa.int64())).to_pylist()


def _card(row: Mapping[str, Any], crop_of: CropOf) -> dict[str, Any]:
    """What the page shows of an image: its crop, its name and what is known of it."""
    return {**row, "name": file_name(row["uri"]), **_small(crop_of(row["row_id"]))}


def _small(pixels: np.ndarray) -> dict[str, Any]:
    small = thumbnail(pixels, side=SIDE)
    return {"source": as_source(jpeg(small), "jpeg"), "width": small.shape[1], "height": small.shape[0]}


def _conflicting(images: pa.Table) -> list[int]:
    """A group with contradicting labels each, by its number."""
    return pc.unique(images.filter(images["conflicting_label"])["group"]).to_pylist()


def _groups(images: pa.Table, numbers: list[int], crop_of: CropOf, shown: int) -> list[dict[str, Any]]:
    """The first groups with their members side by side."""
    found = []
    group = images["group"].to_numpy()
    ok = pc.equal(images["status"], "ok").to_numpy(zero_copy_only=False)
    for number in numbers[:shown]:
        members = np.flatnonzero((group == number) & ok)
        cards = [_card(row, crop_of) for row in _rows(images, members[:MEMBERS])]
        found.append({"number": number, "cards": cards, "more": max(0, len(members) - MEMBERS)})
    return found


def _copied(images: pa.Table, kind: str, crop_of: CropOf, shown: int) -> list[dict[str, Any]]:
    """Groups of test images whose closest copy in training is of this kind, the test image first."""
    found = []
    group, split = images["group"].to_numpy(), np.array(images["split"].to_pylist(), object)
    asked = np.flatnonzero(np.array(images["copy_in_training"].to_pylist(), object) == kind)
    # Spread over the listing: the first ones are all of one class.
    for row in asked[np.unique(np.linspace(0, len(asked) - 1, min(shown, len(asked))).round().astype(int))] if len(asked) else []:
        others = np.flatnonzero((group == group[row]) & (split == "train") & (np.arange(len(group)) != row))
        cards = [_card(one, crop_of) for one in _rows(images, [row, *others[: MEMBERS - 1]])]
        found.append({"number": int(group[row]), "cards": cards, "more": max(0, len(others) - MEMBERS + 1)})
    return found


def _crops(images: pa.Table, crop_of: CropOf, read_image: ReadImage, shown: int) -> list[dict[str, Any]]:
    """The most doubtful crops: the frame with the box, and the crop."""
    good = images.filter(pc.equal(images["status"], "ok"))
    if not len(good) or not shown:
        return []
    worst = good.take(pc.select_k_unstable(good, min(shown, len(good)), [("crop_doubt", "descending"), ("row_id", "ascending")]))
    cards = []
    for row in worst.to_pylist():
        box = (row["crop_x"], row["crop_y"], row["crop_w"], row["crop_h"])
        cards.append(
            {
                **row,
                "name": file_name(row["uri"]),
                "before": picture(row, read_image, box=box),
                "after": _small(crop_of(row["row_id"])),
            }
        )
    return cards


def _planes(images: pa.Table, crop_of: CropOf, shown: int) -> list[dict[str, Any]]:
    """Examples of each plane, the surest and the least sure."""
    found = []
    for plane in VIEWS:
        rows = np.flatnonzero(pc.fill_null(pc.equal(images["plane"], plane), False).to_numpy(zero_copy_only=False))
        sure = images["plane_probability"].to_numpy(zero_copy_only=False)[rows].astype(float)
        order = rows[np.argsort(-sure, kind="stable")]
        few = max(1, shown // 4) if shown else 0
        spread = order[np.unique(np.linspace(0, len(order) - 1, min(few, len(order))).round().astype(int))] if len(order) else []
        found.append({"plane": plane, "images": len(rows), "cards": [_card(row, crop_of) for row in _rows(images, spread)]})
    return found


def _suspects(images: pa.Table, crop_of: CropOf, shown: int) -> list[dict[str, Any]]:
    """The labels doubted most."""
    doubted = images.filter(images["suspected_label"].is_valid()).sort_by(
        [("label_margin", "ascending"), ("row_id", "ascending")]
    )
    return [_card(row, crop_of) for row in doubted.slice(0, shown).to_pylist()]


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}%"


def _interval(found: Mapping[str, Any]) -> str:
    return "" if found["low"] is None else f"{100 * found['low']:.1f} to {100 * found['high']:.1f}"
