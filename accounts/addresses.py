"""One person, one address: the form of an e-mail address under which it is counted."""

_DOTS_DO_NOT_COUNT = {"gmail.com", "googlemail.com"}


def canonical(email: str) -> str:
    """`A.Lice+flux@GoogleMail.com` and `alice@gmail.com` are one person; returns the form they share."""
    local, _, domain = email.strip().lower().rpartition("@")
    domain = domain.rstrip(".")
    local = local.split("+", 1)[0] or local
    if domain in _DOTS_DO_NOT_COUNT:
        local, domain = local.replace(".", "") or local, "gmail.com"
    return f"{local}@{domain}"
