"""Pictures: is this really one, its renditions, and files that are still there after a power cut.

Everything here is CPU and disk work for a thread: no database, no network, no state that threads share.
A picture is judged by its bytes alone, and its size is read from the header before any of it is decoded.
"""

from playground.images.converting import converted
from playground.images.decoding import MAX_BYTES, MAX_PIXELS, MAX_SIDE, ImageError
from playground.images.files import (
    CONTENT_TYPES,
    SUFFIXES,
    Size,
    clear_incoming,
    content_type,
    has_space,
    new_key,
    old_keys,
    path,
    remove,
    store,
    stored_sha256,
)
from playground.images.inputs import MAX_INPUT_BYTES, Busy, normalise
from playground.images.renditions import PREVIEW_SIDE, THUMB_SIDE, Rendered, render, social

__all__ = [
    "CONTENT_TYPES",
    "MAX_BYTES",
    "MAX_INPUT_BYTES",
    "MAX_PIXELS",
    "MAX_SIDE",
    "PREVIEW_SIDE",
    "SUFFIXES",
    "THUMB_SIDE",
    "Busy",
    "ImageError",
    "Rendered",
    "Size",
    "clear_incoming",
    "content_type",
    "converted",
    "has_space",
    "new_key",
    "normalise",
    "old_keys",
    "path",
    "remove",
    "render",
    "social",
    "store",
    "stored_sha256",
]
