"""What the first bytes of a file say that it is, where its name says something else: an archive that is read, one that is not, a page."""

SNIFFED = 512  # bytes
READ = frozenset({"zip", "tar", "tar.gz", "tar.bz2", "tar.xz"})

_BEGINNINGS = {
    b"PK\3\4": "zip",
    b"PK\5\6": "zip",
    b"\x1f\x8b": "tar.gz",
    b"BZh": "tar.bz2",
    b"\xfd7zXZ\0": "tar.xz",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive, which is not opened; extract it or use zip",
    b"Rar!\x1a\x07": "a RAR archive, which is not opened; extract it or use zip",
    b"\x28\xb5\x2f\xfd": "packed with Zstandard (.zst), which is not opened; extract it or use zip",
    b"\x04\x22\x4d\x18": "packed with LZ4, which is not opened; extract it or use zip",
    b"\x1f\x9d": "packed with compress (.Z), which is not opened; extract it or use zip",
}


def kind_of_bytes(head: bytes) -> str | None:
    """A name of READ, or what the file is in words, or None where the bytes do not say."""
    for beginning, kind in _BEGINNINGS.items():
        if head.startswith(beginning):
            return kind
    if head[257:262] == b"ustar":
        return "tar"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page, not an archive: download it again, signed in where that is asked for"
    return None
