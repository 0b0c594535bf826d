"""Input pictures of a call: what is here already, and addresses from which the engine fetches."""

import base64
import binascii
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

from playground import images, result_links, turnstile, uploads
from playground.api.auth import Caller
from playground.api.errors import Problem
from playground.api.places import Places
from playground.models import Upload

MOST_URL = 2000
MOST_INPUTS = 8
# Pictures of one account are looked at one after another, and a client that has eight sends them all at once.
TURN_WITHIN_S, PAUSE_S = 20.0, 0.05
_waiting = Places(
    32,
    each=16,
    words="Other input pictures of yours are being looked at. Try again in a few seconds.",
)


def inputs_of(caller: Caller, urls: Sequence[str], param: str) -> tuple[list[Upload], tuple[str, ...]]:
    """What is here already, and otherwise the addresses from which the engine will fetch, in order. Raises Problem."""
    if len(urls) > MOST_INPUTS:
        raise Problem(
            "invalid_parameter", f"{MOST_INPUTS} input pictures are the most, not {len(urls)}.", param=param
        )
    found = [_input(caller, url, f"{param}[{number}]") for number, url in enumerate(urls)]
    if all(isinstance(one, Upload) for one in found):
        return list(dict.fromkeys(one for one in found if isinstance(one, Upload))), ()
    return [], tuple(f"upload:{one.pk}" if isinstance(one, Upload) else one for one in found)


def input_of(caller: Caller, url: str, param: str) -> tuple[list[Upload], tuple[str, ...]]:
    """The same of a call that takes one picture at most; "" for none."""
    if not url:
        return [], ()
    one = _input(caller, url, param)
    return ([one], ()) if isinstance(one, Upload) else ([], (one,))


def _input(caller: Caller, url: str, param: str) -> Upload | str:
    if url.startswith("data:"):
        return taken(caller, _decoded(url, param), param)
    parts = _parts(url, param)
    here = {caller.get_host().lower(), urlsplit(settings.BASE_URL).netloc.lower()}
    own = _own(caller, parts.path, param) if parts.netloc.lower() in here else None
    return own or url


def _parts(url: str, param: str) -> SplitResult:
    if len(url) > MOST_URL:
        raise Problem("invalid_parameter", f"An address has at most {MOST_URL:,} characters.", param=param)
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good:
        raise Problem("invalid_parameter", "An input picture is a public http or https address.", param=param)
    return parts


def _own(caller: Caller, path: str, param: str) -> Upload | None:
    """An upload or a result of ours, without asking ourselves over the network. None for any other page of ours."""
    folder, _, rest = path.lstrip("/").partition("/")
    signed = rest.partition("/")[0]
    if folder == "f":
        upload = uploads.by_link(signed)
        if upload is None or upload.user_id != caller.user.pk:
            raise Problem("input_refused", "This upload is gone, or is not yours.", param=param)
        return upload
    if folder == "r":
        return _result(caller, signed, param)
    return None


def _result(caller: Caller, signed: str, param: str) -> Upload:
    try:
        picture = result_links.picture_for(signed)
    except result_links.Expired:
        picture = None
    if picture is None or picture.user_id != caller.user.pk:
        gone = "This result is gone, is not yours, or its address is older than 24 hours: ask recordInfo for a fresh one."
        raise Problem("input_refused", gone, param=param)
    with _refusals(param):
        return _in_turn(caller.user.pk, lambda: uploads.take_picture(caller.user, picture))


def _decoded(url: str, param: str) -> bytes:
    head, _, text = url.partition(",")
    try:
        if not head.endswith(";base64"):
            raise ValueError
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise Problem("invalid_parameter", "This data: URL is not base64.", param=param) from None


def taken(caller: Caller, data: bytes, param: str) -> Upload:
    """The upload of these bytes. Raises Problem. Not inside a transaction."""
    with _refusals(param):
        return _in_turn(caller.user.pk, lambda: uploads.take(caller.user, data))


def _in_turn(user_id: int, take: Callable[[], Upload]) -> Upload:
    """What `take` takes, once others of the account have had their turn. Waits out of everybody's way.

    Raises Problem where too many wait, and images.Busy after 20 s.
    """
    try:
        return take()
    except images.Busy:
        pass
    until = time.monotonic() + TURN_WITHIN_S
    with _waiting.one(user_id):
        while True:
            with turnstile.stepped_aside():
                time.sleep(PAUSE_S)
            try:
                return take()
            except images.Busy:
                if time.monotonic() > until:
                    raise


@contextmanager
def _refusals(param: str) -> Iterator[None]:
    """What can be wrong with an input picture, as Problems."""
    try:
        yield
    except images.ImageError as no:
        raise Problem("input_refused", str(no), param=param) from no
    except uploads.QuotaReached as no:
        raise Problem("quota_reached", str(no), param=param) from no
    except images.Busy as busy:
        words = "Another input picture of yours is being looked at. Try again in a moment."
        raise Problem("unavailable", words, retry_after_s=2) from busy
    except (uploads.NoSpace, OSError, MemoryError) as trouble:
        raise Problem(
            "unavailable", "The picture could not be stored at the moment.", retry_after_s=30
        ) from trouble
