"""Who calls: the Authorization header and nothing else. Cookies are not looked at."""

from collections.abc import Sequence
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from ninja.security import HttpBearer

from accounts import keys
from accounts.models import ApiKey, User
from playground.api import limits, reading
from playground.api.errors import Problem


class Caller(HttpRequest):
    """A request with a key that works; `auth` is the key, with its `user`."""

    auth: ApiKey
    user: User


class Bearer(HttpBearer):
    """`Authorization: Bearer sk-aig-...`, the scheme in any case."""

    def __call__(self, request: HttpRequest) -> ApiKey:
        scheme, _, text = " ".join(request.headers.get("Authorization", "").split()).partition(" ")
        if not scheme or not text or scheme.lower() != "bearer":
            limits.count_stranger(request)
            raise Problem("missing_api_key", _no_key(scheme, text))
        return self.authenticate(request, text)

    def authenticate(self, request: HttpRequest, token: str) -> ApiKey:
        now = timezone.now()
        key = keys.find(token, now)
        if key is None:
            limits.count_stranger(request)
            raise Problem("invalid_api_key", _why_not(token))
        keys.used(key, now)
        request.user = key.user
        reading.take(request)
        return key


def check_again(caller: Caller, task_ids: Sequence[str] = ()) -> None:
    """For a call that has waited, for its own body or for pictures: a key that ends meanwhile ends at once.

    Raises Problem.
    """
    if not keys.still_works(caller.auth):
        words = "This key has ended, or its account was suspended, while the call waited."
        raise Problem("invalid_api_key", words, task_ids=tuple(task_ids))


def _no_key(scheme: str, text: str) -> str:
    if scheme and not text:
        return (
            "The Authorization header must be: Bearer sk-aig-... (the word Bearer is missing, or the key is)."
        )
    return "Send your API key as Authorization: Bearer sk-aig-... Keys are made under Settings, API keys."


def _why_not(token: str) -> str:
    if not token.startswith(keys.PREFIX):
        return "This is not one of our keys: they begin with sk-aig-."
    if not keys.is_well_formed(token):
        return "This key is mistyped or cut off: its checksum is wrong."
    return "This key is unknown, expired or revoked, or its account is suspended."


def caller(request: Any) -> Caller:
    """The request of a route with a key, typed."""
    assert isinstance(request.auth, ApiKey)
    known: Caller = request
    return known
