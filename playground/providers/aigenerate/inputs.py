"""How input pictures get to hosts of this shape: they take addresses, so a picture is uploaded to them first.

Uploading costs nothing and starts nothing. They keep a file for days; an address is used for an hour, so that the
jobs of one run, and of the runs that follow it, share one upload.
"""

import asyncio
import time
from weakref import WeakValueDictionary

from yarl import URL

from playground.net import Client, Part, Reply
from playground.providers.aigenerate.answers import NOT_STARTED, OPERATORS, Answer, answer_of
from playground.providers.base import Failure, Input, OutcomeUnknown, Rejected, TryLater
from playground.providers.line import Line, web_address

PATH = "/api/file-stream-upload"
FOLDER = "inputs"
KEPT_S = 3600.0
MOST_KEPT = 500
# About the file itself, which will be the same next time.
REFUSED = {400, 413, 415, 422}


class Uploads:
    """Uploads to one host, each picture once an hour."""

    def __init__(self, line: Line, *, url: str) -> None:
        self._line = line
        self._url = url.rstrip("/") or _origin(line.base_url)
        self._kept: dict[str, tuple[str, float]] = {}
        self._under_way: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def address(self, http: Client, picture: Input, *, within_s: float) -> str:
        """Where the host has it. Raises TryLater and Rejected, for nothing is ever started by this."""
        lock = self._under_way.setdefault(picture.name, asyncio.Lock())
        async with lock:
            url, until = self._kept.get(picture.name, ("", 0.0))
            if time.monotonic() >= until:
                url = await self._upload(http, picture, within_s)
                self._keep(picture.name, url)
            return url

    async def _upload(self, http: Client, picture: Input, within_s: float) -> str:
        form = [
            Part("uploadPath", FOLDER),
            Part("fileName", picture.name),
            Part("file", picture.data, filename=picture.name, content_type=picture.content_type),
        ]
        try:
            reply = await self._line.ask(http, "POST", self._url + PATH, within_s=within_s, form=form)
        except OutcomeUnknown as lost:
            detail = f"The upload of an input picture failed: {lost.detail}"[:300]
            raise TryLater(detail, is_about_job=True) from None
        return self._address_in(reply)

    def _address_in(self, reply: Reply) -> str:
        answer = answer_of(reply, self._line)
        url = next(
            (url for name in ("downloadUrl", "fileUrl") if (url := web_address(answer.data.get(name)))), ""
        )
        if url and answer.envelope.get("success") is not False:
            return url
        raise _refusal(answer)

    def _keep(self, name: str, url: str) -> None:
        self._kept.pop(name, None)
        self._kept[name] = (url, time.monotonic() + KEPT_S)
        if len(self._kept) > MOST_KEPT:
            del self._kept[next(iter(self._kept))]  # the oldest


def _origin(base_url: str) -> str:
    try:
        return str(URL(base_url).origin())
    except ValueError:
        return base_url  # no address at all, as asking it will tell


def _refusal(answer: Answer) -> Exception:
    detail = f"The upload of an input picture failed: {answer.detail}"[:300]
    if answer.verdict in OPERATORS | {403}:
        return Rejected(Failure.UPSTREAM_UNAVAILABLE, detail, is_about_job=True)
    if answer.verdict in REFUSED:
        return Rejected(Failure.REJECTED, detail)
    after_s = answer.retry_after_s if answer.verdict in NOT_STARTED else None
    return TryLater(detail, retry_after_s=after_s, is_about_job=True)


def own_address(picture: Input) -> str:
    """Where the host may fetch it from us."""
    if not picture.url:
        raise Rejected(
            Failure.UPSTREAM_UNAVAILABLE,
            "This upstream fetches input pictures from here, so BASE_URL must be this server's public address.",
            is_about_job=True,
        )
    return picture.url
