"""What a file name promises: an image, an archive, or something a listing skips and says why. Names only; no file is opened."""

import re
from urllib.parse import urlsplit

from btc_ray import storage

IMAGE_EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp"},
)
_ARCHIVES = {
    ".zip": "zip",
    ".tar": "tar",
    ".tar.gz": "tar.gz",
    ".tgz": "tar.gz",
    ".tar.bz2": "tar.bz2",
    ".tbz2": "tar.bz2",
    ".tar.xz": "tar.xz",
    ".txz": "tar.xz",
}
_ARCHIVE_ENDS = tuple(_ARCHIVES)
_OTHER_ARCHIVES = frozenset({".rar", ".7z", ".gz", ".bz2", ".xz", ".zst"})
_WINDOWS = frozenset({"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini"})
_LEFTOVER_FOLDERS = {
    **dict.fromkeys(("@eadir", "@__thumb", "@synoeastream"), "thumbnails that a NAS made"),
    **dict.fromkeys(
        ("#recycle", "@recycle", "$recycle.bin", "recycler", "recycled", "network trash folder"), "deleted files in a recycle bin"
    ),
    **dict.fromkeys(("#snapshot", "~snapshot", "@snapshot", "@recently-snapshot"), "older versions of files (a NAS's snapshots)"),
    **dict.fromkeys(("lost+found", "found.000"), "fragments that a disk check found"),
    **dict.fromkeys(("system volume information", "@tmp", "@synoresource", "temporary items"), "files of the operating system"),
}
_DICOM = frozenset({".dcm", ".dicom"})
_NEVER_DICOM = frozenset(
    f".{end}"
    for end in [
        "txt",
        "csv",
        "tsv",
        "json",
        "jsonl",
        "xml",
        "html",
        "htm",
        "pdf",
        "doc",
        "docx",
        "xls",
        "xlsx",
        "ods",
        "odt",
        "ppt",
        "pptx",
        "md",
        "log",
        "ini",
        "cfg",
        "yaml",
        "yml",
        "toml",
        "py",
        "ipynb",
        "r",
        "m",
        "sh",
        "bat",
        "js",
        "css",
        "db",
        "sqlite",
        "mat",
        "npy",
        "npz",
        "parquet",
        "pq",
        "pt",
        "pth",
        "safetensors",
        "onnx",
        "h5",
        "hdf5",
        "pkl",
        "mp4",
        "avi",
        "mov",
        "mkv",
        "mp3",
        "wav",
        "gif",
        "svg",
        "ico",
        "exe",
        "dll",
        "so",
        "lnk",
        "url",
        "tmp",
        "bak",
        "part",
        "crdownload",
        "md5",
        "sha256",
        "sha1",
    ]
)
_LISTS = {".txt": "text", ".csv": "csv", ".tsv": "csv", ".tab": "csv", ".parquet": "parquet", ".pq": "parquet"}
_DRIVE = re.compile(r"^[A-Za-z]:")

_PART_OF_ARCHIVE = re.compile(r"\.(?:z\d\d|(?:zip|7z|rar|tar|tgz|gz|bz2|xz)\.\d{2,4}|part\d+\.rar)$", re.IGNORECASE)
_UNFINISHED = frozenset({".part", ".partial", ".filepart", ".crdownload", ".opdownload"})
WORKBOOKS = frozenset({".xls", ".xlsx", ".xlsm", ".ods", ".numbers"})

BIDS_MARK = "dataset_description.json"  # what stands at the root of a BIDS data set
BIDS_ASIDE = ("derivatives", "sourcedata")  # folders there that hold the same images once more, otherwise made
_NO_EXTENSION = "not an image (no known extension)"
DICOM_PROBLEM = "DICOM, which is read with --sniff auto, and by jobs on labelled images with --labels"


def last_name(uri: str) -> str:
    """The file name at the end of a URI or path; an HTTP query is not part of it."""
    if storage.scheme(uri) in ("http", "https"):
        uri = urlsplit(uri).path
    return uri.rstrip("/").rsplit("/", 1)[-1]


def extension(name: str) -> str:
    """The extension with its dot, in lower case; empty where there is none."""
    stem, dot, end = name.rpartition(".")
    return f".{end.lower()}" if dot and stem else ""


def is_image(name: str) -> bool:
    return extension(name) in IMAGE_EXTENSIONS


def is_dicom(name: str) -> bool:
    return extension(name) in _DICOM or name == "DICOMDIR"


def archive_kind(name: str) -> str | None:
    """`zip`, `tar`, `tar.gz`, `tar.bz2`, `tar.xz`, or None for what is not opened as an archive."""
    lowered = name.lower()
    if not lowered.endswith(_ARCHIVE_ENDS):  # nearly always, and much faster than the search below
        return None
    return next((kind for end, kind in _ARCHIVES.items() if lowered.endswith(end) and len(lowered) > len(end)), None)


def unopened_archive(name: str) -> str | None:
    """Why a kind of archive that is not opened is no row, or None for any other name."""
    end = extension(name)
    return f"this kind of archive is not opened ({end}); extract it or use zip" if end in _OTHER_ARCHIVES else None


def list_kind(name: str) -> str | None:
    """`text`, `csv` or `parquet` for a file that lists URIs when a person gives it as an input, or None."""
    return _LISTS.get(extension(name))


def skip_folder(name: str) -> str | None:
    """Why a folder is not entered, or None. `.` and `..` are not hidden."""
    if name == "__MACOSX":
        return "macOS leftover"
    if leftover := _LEFTOVER_FOLDERS.get(name.lower()):
        return leftover
    if name.startswith("@GMT-"):  # what Windows' "previous versions" are called on a Samba share
        return _LEFTOVER_FOLDERS["#snapshot"]
    return "hidden folder" if name.startswith(".") and name not in (".", "..") else None


def bids_aside(folder: str) -> str:
    """Why a folder of BIDS_ASIDE is not entered."""
    return f"{folder} of a BIDS data set: entered only where it is named"


def skip_file(name: str) -> str | None:
    """Why a file is no row, or None for images and archives."""
    if name == ".DS_Store" or name.startswith("._"):
        return "macOS leftover"
    if name.lower() in _WINDOWS:
        return "Windows leftover"
    if name.startswith("."):
        return "hidden file"
    if is_image(name) or archive_kind(name):
        return None
    if is_dicom(name):
        return DICOM_PROBLEM
    if _PART_OF_ARCHIVE.search(name):
        return "one part of an archive that is split over several files; join them and unpack it"
    if extension(name) in _UNFINISHED:
        return f"a download or copy that has not ended ({extension(name)})"
    if unopened := unopened_archive(name):
        return unopened
    end = extension(name)
    # Numbered files (IM.0001) would make a reason each.
    return f"not an image ({end})" if re.fullmatch(r"\.[a-z][a-z0-9]{0,7}", end) else _NO_EXTENSION


def sniff_candidate(name: str) -> bool:
    """Whether a name promises nothing, so that only the first bytes tell what the file is: none or a numeric extension (IM.0001), a UID
    (1.2.840.…), or one that is not known as something else (.ima). DICOM files are often called so."""
    return (skip_file(name) or "").startswith("not an image") and extension(name) not in _NEVER_DICOM


def skip_member(name: str) -> str | None:
    """Why a member of an archive is no row, by every folder on its way and its own name (a backslash parts folders too, as
    in Windows' zips).
    """
    *folders, last = name.replace("\\", "/").split("/")
    return next((reason for folder in folders if (reason := skip_folder(folder))), None) or skip_file(last)


def leaves_archive(name: str) -> bool:
    """Whether extraction would write outside the archive's folder: `..`, an absolute name, a drive letter."""
    name = name.replace("\\", "/")
    return name.startswith("/") or bool(_DRIVE.match(name)) or ".." in name.split("/")


def plain_member(name: str) -> str:
    """A member name as extraction reads it: `./a//b.jpg` and, from Windows, `a\\b.jpg` are `a/b.jpg`. Names that leave the archive stay
    as they are.
    """
    return (
        name if leaves_archive(name) else "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
    )


def printable(name: str) -> tuple[str, bool]:
    """The name as UTF-8 text, bytes that are not UTF-8 as `\\xff`, and whether the name was UTF-8 to begin with."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape" if _escapable(name) else "backslashreplace").decode(
            "utf-8", "backslashreplace"
        ), False
    return name, True


def _escapable(name: str) -> bool:
    return all(not 0xD800 <= ord(letter) < 0xDC80 and not 0xDCFF < ord(letter) < 0xE000 for letter in name)


def split_member(uri: str) -> tuple[str, str] | None:
    """`(archive, member)` of `archive.zip::member`, or None. The first `::` after an archive's extension is the border."""
    start = uri.find("::")
    while start >= 0:
        if archive_kind(last_name(uri[:start])) and uri[start + 2 :]:
            return uri[:start], uri[start + 2 :]
        start = uri.find("::", start + 1)
    return None


def member_uri(container: str, member: str) -> str:
    return f"{container}::{member}"


def too_large(size_limit: int) -> str:
    amount = f"{size_limit / (1 << 30):g} GiB" if size_limit >= 1 << 30 else f"{size_limit:,} bytes"
    return f"larger than {amount}, which no image is"


_PACKED_STUDIES = (".nii.gz", ".dcm.gz", ".ima.gz", ".dicom.gz")
_FRAME = re.compile(r"#(?:frame|slice)=\d+$")


def medical_candidate(name: str) -> bool:
    """Whether a file of this name may be DICOM or NIfTI: its name says so, or promises nothing."""
    return is_dicom(name) or name.lower().endswith(_PACKED_STUDIES) or sniff_candidate(name)


def promises_study(name: str) -> bool:
    """Whether a name says that the file is DICOM or NIfTI, so that one which is not is an image lost."""
    lowered = name.lower()
    return is_dicom(name) or lowered.endswith((*_PACKED_STUDIES, ".nii", ".ima"))


def frame_uri(uri: str, kind: str, frame: int) -> str:
    """The URI of one frame of a DICOM file or slice of a NIfTI file."""
    return f"{uri}#{'slice' if kind == 'nifti' else 'frame'}={frame}"


def file_of(uri: str) -> str:
    """The URI of the file that a frame is in."""
    return _FRAME.sub("", uri)
