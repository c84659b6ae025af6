"""What becomes of each member of an archive, the same for zip and tar: a row, a row with its problem, or skipped with a
reason.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from btc_ray.archive import names
from btc_ray.archive.entries import SNIFF, Entry, Skipped, Status
from btc_ray.storage.limits import UNPACKED_RATIO, unpacks_too_far


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One file of an archive as its index describes it; sizes in bytes. `name` is raw: `./a.jpg`, bytes that are no UTF-8 as
    surrogates.
    """

    name: str
    size: int
    packed_size: int | None
    offset: int
    packing: str | None
    kind: Literal["file", "link", "special"] = "file"
    problem_status: Status | None = None
    problem: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """All files of one archive in the archive's own order. `broken` says why the index is not complete, None when it is."""

    members: list[Member] = field(default_factory=list)
    broken: str | None = None
    broken_status: Status = "unreadable"


def archive_items(
    container: str, index: Index, *, size: int | None, size_limit: int, sniff: bool = False, version: str | None = None
) -> Iterator[Entry | Skipped]:
    """Rows and skips of a whole archive; a broken one ends with a row of its own, an empty one is skipped and counted. `sniff`: members
    that may be DICOM or NIfTI are entries of kind SNIFF. `version` is the archive's, as for `chosen_entries`."""
    last = {names.plain_member(member.name): number for number, member in enumerate(index.members)}
    bids = [name.removesuffix(names.BIDS_MARK) for name in last if f"/{name}".endswith(f"/{names.BIDS_MARK}")]
    aside = {f"{root}{folder}/": names.bids_aside(folder) for root in bids for folder in names.BIDS_ASIDE}
    for number, member in enumerate(index.members):
        shown, _ = names.printable(member.name)
        reason = names.skip_member(shown)
        set_aside = next((why for folder, why in aside.items() if names.plain_member(shown).startswith(folder)), None)
        if member.kind != "file" and not names.is_image(shown):
            reason = "not a regular file inside an archive (a link or a device)"
        if set_aside is not None:
            yield Skipped(uri=names.member_uri(container, names.plain_member(shown)), reason=set_aside)
        elif sniff and member.kind == "file" and names.medical_candidate(names.last_name(shown)) and _may_be_study(shown):
            entry = member_entry(
                container,
                member,
                replaced=last[names.plain_member(member.name)] != number,
                size_limit=size_limit,
                version=version,
            )
            unread = entry.problem_status is None or entry.problem == names.DICOM_PROBLEM
            yield replace(entry, kind=SNIFF, problem_status=None, problem=None) if unread else entry
        elif reason:
            yield Skipped(uri=names.member_uri(container, names.printable(names.plain_member(member.name))[0]), reason=reason)
        else:
            replaced = last[names.plain_member(member.name)] != number
            yield member_entry(container, member, replaced=replaced, size_limit=size_limit, version=version)
    if index.broken:
        yield Entry(uri=container, size=size, problem_status=index.broken_status, problem=index.broken)
    elif not index.members:
        yield Skipped(uri=container, reason="empty archive")


def _may_be_study(shown: str) -> bool:
    folder, _, _ = shown.replace("\\", "/").rpartition("/")
    return not folder or names.skip_member(f"{folder}/x.png") is None


def chosen_entries(
    container: str, index: Index, chosen: list[str], *, size_limit: int, version: str | None = None
) -> Iterator[Entry]:
    """One row for each member named by a person, whatever its extension; one that is not there is a row too."""
    by_name = {names.plain_member(member.name): member for member in index.members}
    for name in chosen:
        member = by_name.get(names.plain_member(name))
        if member is not None:
            yield member_entry(container, member, replaced=False, size_limit=size_limit, version=version)
            continue
        status: Status = index.broken_status if index.broken else "failed"
        problem = index.broken or "the archive has no member of this name"
        yield Entry(uri=names.member_uri(container, name), container=container, problem_status=status, problem=problem)


def member_entry(container: str, member: Member, *, replaced: bool, size_limit: int, version: str | None = None) -> Entry:
    shown, is_text = names.printable(member.name)
    status, problem = _problem(member, shown, is_text=is_text, replaced=replaced, size_limit=size_limit)
    return Entry(
        uri=names.member_uri(container, names.printable(names.plain_member(member.name))[0]),
        size=member.size,
        container=container,
        offset=member.offset,
        packed_size=member.packed_size,
        packing=member.packing,
        problem_status=status,
        problem=problem,
        version=version,
    )


def _problem(member: Member, shown: str, *, is_text: bool, replaced: bool, size_limit: int) -> tuple[Status | None, str | None]:
    if not is_text:
        return "unsupported", "the member name is not valid UTF-8; extract the archive and rename it"
    if "\0" in shown:
        return "unsupported", "the member name holds a NUL character; extract the archive and rename it"
    if names.leaves_archive(shown):
        return "unsupported", "member name leaves the archive"
    if replaced:
        return "unsupported", "a later member of the same name replaces it"
    if member.kind == "special":
        return "unsupported", "not a regular file but a device or a pipe"
    if member.kind == "link":
        return "unsupported", "a link inside an archive is not followed; extract the archive first"
    if member.problem_status:
        return member.problem_status, member.problem
    if names.archive_kind(shown):
        return "unsupported", "an archive inside an archive is not opened; extract it first"
    if names.is_dicom(shown):
        return "unsupported", names.DICOM_PROBLEM
    if max(member.size, member.packed_size or 0) > size_limit:
        return "unsupported", names.too_large(size_limit)
    if member.packed_size is not None and unpacks_too_far(member.size, member.packed_size):
        return "unsupported", f"it unpacks to more than {UNPACKED_RATIO} times its size, as no image does"
    return None, None
