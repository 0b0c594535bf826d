"""The settings area: its navigation, and whether passkeys can work where somebody is."""

from typing import Any

from django import template
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from accounts import mfa

register = template.Library()

# Title, the page, and the pages that belong to it. One whose page does not exist is left out.
ENTRIES = (
    ("Profile", "profile", {"account_email"}),
    ("Security", "security", {"account_change_password", "account_set_password"}),
    ("Sessions", "sessions", set[str]()),
    ("Notifications", "notifications", set[str]()),
    ("Spend caps", "caps", {"cap"}),
    ("API keys", "keys", {"key"}),
    ("Webhooks", "webhooks", {"webhook"}),
    ("Your data", "your_data", {"delete_account", "export"}),
)


@register.inclusion_tag("_settings_nav.html", takes_context=True)
def settings_nav(context: dict[str, Any]) -> dict[str, Any]:
    here = context["request"].resolver_match.url_name or ""
    return {"entries": [entry for entry in (_entry(*known, here) for known in ENTRIES) if entry]}


def _entry(title: str, page: str, others: set[str], here: str) -> tuple[str, str, bool] | None:
    try:
        url = reverse(page)
    except NoReverseMatch:
        return None
    is_here = here == page or here in others or here.startswith(f"{page.removesuffix('s')}_")
    return title, url, is_here or (page == "security" and here.startswith("mfa_"))


@register.simple_tag(takes_context=True)
def why_no_passkeys(context: dict[str, Any]) -> str:
    request: HttpRequest = context["request"]
    return mfa.why_no_passkeys(request)
