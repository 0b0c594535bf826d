"""One person, one address: the form of an e-mail address under which it is counted."""

import unicodedata

_DOTS_DO_NOT_COUNT = {"gmail.com", "googlemail.com"}


def canonical(email: str) -> str:
    """`A.Lice+flux@GoogleMail.com` and `alice@gmail.com` are one person; returns the form they share."""
    local, _, domain = _folded(email.strip()).rpartition("@")
    domain = _ascii(domain.rstrip("."))
    local = local[:1] + local[1:].split("+", 1)[0]  # a plus in front begins the name, not a tag
    if domain in _DOTS_DO_NOT_COUNT:
        local, domain = local.replace(".", "") or local, "gmail.com"
    return f"{local}@{domain}"


def _folded(text: str) -> str:
    """Without case and without twins: a Kelvin sign passes for a `k` in address checks, so it is one here too."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _ascii(domain: str) -> str:
    """`bücher.example` as name servers know it; a domain that they cannot know stays as it is."""
    try:
        return domain.encode("idna").decode()
    except UnicodeError:
        return domain
