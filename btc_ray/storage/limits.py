"""What one file, archive, table or answer may cost: bytes, entries and how far it unpacks. Above each limit there is a row, or an
error, that says so: no image of a clinic comes near, and a small file made to fill a memory or a night does."""

SIZE_LIMIT = 1 << 30
"""Bytes of one image, loose or unpacked: 1 GiB. What claims more is never allocated."""

UNPACKED_FREE = 64 << 20
"""Bytes that a member may unpack to however well it is packed: 64 MiB, a black scan of 5,792 × 5,792 pixels at 16 bits."""

UNPACKED_RATIO = 250
"""Above UNPACKED_FREE, bytes out of one byte in: scans pack 1.5 to 4 to one, half-empty volumes 20; deflate can reach 1,032, bzip2 and
xz millions."""

ARCHIVE_FREE = 256 << 20
"""Bytes that all members of an archive may unpack to however well it is packed, 256 MiB; above it UNPACKED_RATIO holds for the whole."""

XZ_MEMORY = 256 << 20
"""Bytes of memory that an .xz may ask for, 256 MiB: `xz -9` has 65 MiB, and a header of 30 bytes can ask for 4 GiB."""

DIRECTORY_LIMIT = 256 << 20
"""Bytes of a zip's directory, 256 MiB: it is held in memory, and two million members have 200 MB."""

MEMBERS_LIMIT = 2_000_000
"""Members of one archive; the largest published data sets have 1.4 million in one tar."""

AFTER_END = 16 << 20
"""Bytes looked at behind the end mark of a tar, 16 MiB: padding is 10 KiB, and another tar may be joined on."""

LINE_LIMIT = 64 << 10
"""Characters of one line of a list; a path has 4,096 at most."""

ANSWER_LIMIT = 256 << 20
"""Bytes of one answer of a web server whose length is not known from before: 256 MiB."""

PAGE_LIMIT = 16 << 20
"""Bytes of a web page that lists a folder: 16 MiB, about 100,000 links."""


def unpacks_too_far(unpacked: int, packed: int, *, free: int = UNPACKED_FREE) -> bool:
    """Whether so many bytes out of so few are a bomb rather than an image."""
    return unpacked > free and unpacked > UNPACKED_RATIO * packed
