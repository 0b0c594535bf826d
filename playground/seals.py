"""Secrets of the operator's, sealed before they are written to the database.

What opens them is UPSTREAM_KEYS_SECRET, which lives in the environment alone: whoever has a copy of the database, of
its back-ups or of DATA_DIR (where SECRET_KEY is) has no key of any upstream. Several secrets, separated by commas,
are for changing it: the first one seals, each of them opens.
"""

import base64
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

PURPOSE = b"flux-playground: keys of upstreams"


class SealError(Exception):
    """The text is for operators and holds no secret."""


class NoSecret(SealError):
    def __init__(self) -> None:
        super().__init__("UPSTREAM_KEYS_SECRET is not set, so no key can be sealed or read.")


class WrongSecret(SealError):
    def __init__(self) -> None:
        super().__init__("This key was sealed with another UPSTREAM_KEYS_SECRET than the one that is set.")


def is_possible() -> bool:
    """Whether there is a secret to seal with."""
    return bool(settings.UPSTREAM_KEYS_SECRETS)


def seal(text: str) -> str:
    """Raises NoSecret. Twice the same text gives two different seals."""
    return _locks().encrypt(text.encode()).decode()


def unseal(sealed: str) -> str:
    """Raises NoSecret, or WrongSecret where `sealed` was not sealed by any of our secrets, or not by us."""
    locks = _locks()
    try:
        return locks.decrypt(sealed.encode()).decode()
    except InvalidToken:
        raise WrongSecret from None


def _locks() -> MultiFernet:
    if not is_possible():
        raise NoSecret
    return MultiFernet([_lock(secret) for secret in settings.UPSTREAM_KEYS_SECRETS])


@lru_cache(maxsize=8)
def _lock(secret: str) -> Fernet:
    derive = HKDF(SHA256(), length=32, salt=None, info=PURPOSE)
    return Fernet(base64.urlsafe_b64encode(derive.derive(secret.encode())))
