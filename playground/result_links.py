"""Addresses of ours that serve one result to whoever has them, without a key or a log-in, for a day."""

import uuid
from datetime import timedelta

from django.core import signing
from django.urls import reverse

from playground import images
from playground.models import Picture

GOOD_FOR = timedelta(hours=24)
DOWNLOAD_GOOD_FOR = timedelta(minutes=20)

_signer = signing.TimestampSigner(salt="playground.result_links")
_downloads = signing.TimestampSigner(salt="playground.result_links.downloads")


class Expired(Exception):
    """It was one of ours, and its day is over."""


def url(picture: Picture, base: str = "", *, format: str = "") -> str:
    """A fresh address; `base` is what the world puts before our paths, as in `https://flux.example.com`.

    It ends like the file's name, for clients that save under what stands after the last slash, and serves what the
    ending says. `format`: png, jpeg or webp; as the picture is stored where it is "".
    """
    return f"{base}{reverse('result_file', args=[_signer.sign(picture.pk.hex), _name(picture, format)])}"


def download_url(picture: Picture, base: str = "", *, format: str = "") -> str:
    """A fresh address that a browser saves instead of showing, good for 20 minutes."""
    signed = _downloads.sign(picture.pk.hex)
    return f"{base}{reverse('result_download', args=[signed, _name(picture, format)])}"


def _name(picture: Picture, format: str) -> str:
    return picture.pk.hex[-12:] + images.SUFFIXES[format or shown_format(picture)]


def shown_format(picture: Picture) -> str:
    """Of the largest that its owner may see, as it is stored."""
    return "webp" if picture.is_locked else picture.format


def format_of(name: str) -> str:
    """What the name at the end of an address asks for; "" where it says nothing that we know."""
    return next((format for format, suffix in images.SUFFIXES.items() if name.endswith(suffix)), "")


def picture_for(
    signed: str, *, good_for: timedelta | None = GOOD_FOR, is_download: bool = False
) -> Picture | None:
    """What an address leads to; None where it was never ours, or the picture or its owner is gone. Raises Expired.

    `good_for` None: however old the address is.
    """
    try:
        pk = uuid.UUID((_downloads if is_download else _signer).unsign(signed, max_age=good_for))
    except signing.SignatureExpired as old:
        raise Expired from old
    except (signing.BadSignature, ValueError):
        return None
    there = Picture.objects.kept().shareable().exclude(key="").select_related("variant", "job")
    return there.filter(pk=pk, user__is_active=True, user__suspended=None, user__deleted=None).first()
