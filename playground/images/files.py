"""Where pictures lie: a folder each, written whole or not at all, and still there after a power cut."""

import hashlib
import os
import re
import shutil
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Literal

from django.conf import settings

from playground.images.decoding import ImageError
from playground.images.renditions import Rendered

Size = Literal["original", "preview", "thumb"]

SIZES: tuple[Size, ...] = ("original", "preview", "thumb")
CONTENT_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
SUFFIXES = {"jpeg": ".jpg", "png": ".png", "webp": ".webp"}
SPACE_KNOWN_FOR_S = 2.0

_KEY = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{32}")
_space: dict[str, tuple[float, int]] = {}  # by folder: when it was asked, and the bytes that were free


def new_key(picture_id: uuid.UUID) -> str:
    """The folder of a picture. Its id begins with the time, so the random tail chooses: 65,536 even folders."""
    name = picture_id.hex
    return f"{name[-2:]}/{name[-4:-2]}/{name}"


def path(key: str, size: Size, format: str) -> Path:
    """Where the file is, if it is there; `format` is the original's. Raises ValueError for what is no key or size."""
    return _folder(key) / _name(size, format)


def content_type(size: Size, format: str) -> str:
    """What to say when `size` of a picture whose original has that format is sent out."""
    return CONTENT_TYPES[format if size == "original" else "webp"]


def store(key: str, rendered: Rendered) -> None:
    """Writes all files so that they survive a power cut, or none. Never overwrites: a key is used once.

    The folder is filled and read back elsewhere and then renamed into place, so whoever sees it sees all of it.
    Raises OSError (disk full, read-only, key taken), ImageError when the disk gives back other bytes.
    """
    folder = _folder(key)
    place = _incoming() / uuid.uuid4().hex
    try:
        _make_folder(_incoming())
        place.mkdir()
        for size in SIZES:
            if data := getattr(rendered, size):
                _write(place / _name(size, rendered.format), data)
        _sync_folder(place)
        if _sha256(place / _name("original", rendered.format)) != rendered.sha256:
            raise ImageError("The disk gave back other bytes than were written.")
        _make_folder(folder.parent)
        place = place.rename(folder)
        _sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def remove(key: str) -> None:
    """Deletes the picture's files; no error where there are none."""
    with suppress(FileNotFoundError):
        shutil.rmtree(_folder(key))


def stored_sha256(key: str, format: str) -> str | None:
    """Of the original as it is on the disk now; None when it is not there."""
    try:
        return _sha256(path(key, "original", format))
    except FileNotFoundError:
        return None


def has_space() -> bool:
    """Whether more than MIN_FREE_MB is free where the pictures lie. So cheap that every order can ask."""
    folder, now = str(settings.MEDIA_ROOT), time.monotonic()
    asked, free = _space.get(folder, (-SPACE_KNOWN_FOR_S, 0))
    if now >= asked + SPACE_KNOWN_FOR_S:
        free = _free_bytes(Path(folder))
        _space[folder] = now, free
    return free >= settings.MIN_FREE_BYTES


def _free_bytes(folder: Path) -> int:
    """As far as we may use them. 0 where nobody can say: then nothing could be stored there either."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        disk = os.statvfs(folder)
    except OSError:
        return 0
    return disk.f_bavail * disk.f_frsize


def clear_incoming(*, older_than_s: float = 3600) -> int:
    """Removes what killed processes left half written; returns how many pictures."""
    cleared = 0
    for folder in _incoming().glob("*"):
        with suppress(FileNotFoundError):  # its writer has just finished
            if time.time() - folder.stat().st_mtime > older_than_s:
                shutil.rmtree(folder)
                cleared += 1
    return cleared


def old_keys(top: int, *, older_than_s: float = 86_400) -> list[str]:
    """The pictures of the `top`th of the 256 top folders that lie there for longer than that: a 256th of them all."""
    keys, before = [], time.time() - older_than_s
    for folder in (Path(settings.MEDIA_ROOT) / f"{top:02x}").glob("*/*"):
        key = folder.relative_to(settings.MEDIA_ROOT).as_posix()
        with suppress(FileNotFoundError):
            if _KEY.fullmatch(key) and folder.stat().st_mtime < before:
                keys.append(key)
    return keys


def _folder(key: str) -> Path:
    if not _KEY.fullmatch(key):
        raise ValueError(f"not a picture's key: {key!r}")
    return Path(settings.MEDIA_ROOT) / key


def _name(size: Size, format: str) -> str:
    if size not in SIZES:
        raise ValueError(f"not a size: {size!r}")
    return f"{size}{SUFFIXES[format] if size == 'original' else '.webp'}"


def _incoming() -> Path:
    """On the same disk as the pictures, so that a rename is one step."""
    return Path(settings.MEDIA_ROOT) / ".incoming"


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write(file: Path, data: bytes) -> None:
    with file.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _make_folder(folder: Path) -> None:
    """mkdir -p that survives a power cut: a new folder is an entry in its parent, which must reach the disk too."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
