"""One page per person: who they are, what they have, what they did, and what staff can do about it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone

from accounts import caps, credits, desk, trail
from accounts.admin.books import refund_url
from accounts.admin.people import GIVES_MONEY, SEES_MONEY, UserDesk, staff, wallet_of
from accounts.models import ApiKey, Cap, Hold, TopUp, Transfer, User, Wallet
from playground import jobs
from playground.models import Job, ShareLink, UsageDay

SHOWN = 20
MOST_SESSIONS = 100


@dataclass(frozen=True)
class Deed:
    """A button. What it does asks for a reason first."""

    words: str
    url: str
    is_grave: bool = False


@dataclass(frozen=True)
class Line:
    """A movement of the person's money. `refund_url` where some of it can still be given back."""

    row: Transfer
    change: int
    refund_url: str


@admin.register(User)
class PersonDesk(UserDesk):
    change_form_template = "admin/accounts/user/change_form.html"

    def end_what_waits(self, request: HttpRequest, user: User) -> int:
        """What was sent is finished, and is theirs: the house pays for it in any case."""
        return jobs.cancel_waiting(user, by=staff(request))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        user: User = context["original"]
        shown = {**context, **about(request, user), "title": user.email, "subtitle": ""}
        return super().render_change_form(request, shown, *args, **kwargs)


def about(request: HttpRequest, user: User) -> dict[str, Any]:
    """What the page shows: each part to those who may see it."""
    may = request.user.has_perm
    parts: list[tuple[bool, Callable[[User], dict[str, Any]]]] = [
        (True, _who),
        (may(SEES_MONEY), _money),
        (may("playground.view_job"), _jobs),
        (may("accounts.view_apikey"), _keys),
        (may("playground.view_sharelink"), _links),
        (may("accounts.view_topup") and may(SEES_MONEY), _top_ups),
        (may("admin.view_logentry"), _trail),
    ]
    context = {"person": user, "deeds": _deeds(request, user), "lists": _lists(request, user)}
    context |= {
        "may_refund": may(GIVES_MONEY),
        "may_revoke_keys": may("accounts.change_apikey"),
        "may_take_down": may("playground.change_sharelink"),
        "may_change_rights": request.user.is_superuser,
    }
    for is_shown, part in parts:
        context |= part(user) if is_shown else {}
    return context


def _deeds(request: HttpRequest, user: User) -> list[Deed]:
    may = request.user.has_perm
    is_free = user != request.user and (not user.is_superuser or request.user.is_superuser)
    changes = may("accounts.change_user") and is_free
    factors = _factors(user) if request.user.is_superuser else Authenticator.objects.none()
    ids = ",".join(str(pk) for pk in factors.values_list("pk", flat=True))
    deeds = [
        (may(GIVES_MONEY) and not user.deleted, Deed("Grant credit", _at("accounts_user_grant", user.pk))),
        (may("accounts.change_cap"), Deed("Set caps", _at("accounts_user_caps", user.pk))),
        (may("accounts.change_user"), Deed("Add a note", _at("accounts_user_note", user.pk))),
        (changes, Deed("Sign out everywhere", _at("accounts_user_sign_out", user.pk))),
        (bool(ids), Deed("Remove second factors", _at("mfa_remove", ids), is_grave=True)),
        (changes and user.is_active, Deed("Suspend", _at("accounts_user_suspend", user.pk), is_grave=True)),
        (
            changes and not user.is_active and not user.deleted and user.canonical_email != trail.CONSOLE,
            Deed("Lift the suspension", _at("accounts_user_lift", user.pk)),
        ),
    ]
    return [deed for is_shown, deed in deeds if is_shown]


def _at(name: str, ids: object) -> str:
    return f"{reverse(f'admin:{name}')}?ids={ids}"


def _lists(request: HttpRequest, user: User) -> list[tuple[str, str]]:
    """Everything of theirs, in full."""
    models = [Transfer, Hold, Job, ShareLink, TopUp, LogEntry]
    return [
        (str(model._meta.verbose_name_plural), f"{desk.changelist_url(model)}?{urlencode({'q': user.email})}")
        for model in models
        if admin.site.is_registered(model)
        and request.user.has_perm(f"{model._meta.app_label}.view_{model._meta.model_name}")
    ]


# --- The parts ----------------------------------------------------------------------------------------
def _factors(user: User) -> QuerySet[Authenticator]:
    return Authenticator.objects.filter(user=user).exclude(type=Authenticator.Type.RECOVERY_CODES)


def _who(user: User) -> dict[str, Any]:
    sessions = UserSession.objects.filter(user=user)
    return {
        "standing": "closed" if user.deleted else "active" if user.is_active else "suspended",
        "factors": [str(Authenticator.Type(one.type).label) for one in _factors(user)],
        "addresses": list(user.emailaddress_set.all()),  # type: ignore[attr-defined]
        "sessions": sessions[:MOST_SESSIONS].count(),
        "last_seen": sessions.order_by("-last_seen_at").values_list("last_seen_at", flat=True).first(),
    }


def _money(user: User) -> dict[str, Any]:
    wallet = wallet_of(user)
    names = ("pictures", "pictures_micros", "previews", "kept", "kept_micros")
    days = UsageDay.objects.filter(user=user).aggregate(**{f"of_{name}": Sum(name) for name in names})
    made = {name: int(days[f"of_{name}"] or 0) for name in names}
    return {
        "wallet": wallet,
        "ledger_lines": _lines(wallet) if wallet.pk else [],
        "caps": [_in_words(one) for one in caps.standings(user) if one.is_set],
        "spent": made["pictures_micros"] + made["kept_micros"],
        "paid": made["pictures"] + made["kept"],
        "previews": made["previews"],
    }


def _lines(wallet: Wallet) -> list[Line]:
    sides = [
        rows.select_related("hold", "actor").order_by("-pk")[:SHOWN]
        for rows in (wallet.debits.all(), wallet.credits.all())
    ]
    rows = sorted((row for side in sides for row in side), key=lambda row: row.pk, reverse=True)[:SHOWN]
    return [
        Line(row, row.amount if row.credit_id == wallet.pk else -row.amount, _refund_of(row.hold, row.kind))
        for row in rows
    ]


def _refund_of(held: Hold | None, kind: str) -> str:
    is_charge = kind in (Transfer.Kind.CHARGE, Transfer.Kind.KEEP)
    return refund_url([held.pk]) if held and is_charge and held.refunded < held.captured else ""


def _in_words(standing: caps.Standing) -> str:
    says = [f"stops at {credits.usd(standing.stop)}"] if standing.stop is not None else []
    says += [f"warns at {credits.usd(standing.warn)}"] if standing.warn is not None else []
    if standing.window != Cap.Window.JOB:
        says.append(f"{credits.usd(standing.spent)} spent, {credits.usd(standing.held)} held")
    return f"{caps.name_of(standing.window)}: {', '.join(says)}"


def _jobs(user: User) -> dict[str, Any]:
    own = Job.objects.visible_to(user).newest_first().select_related("variant", "hold")[:SHOWN]
    return {
        "jobs": [
            (
                job,
                jobs.why(job) if job.failure else "",
                "" if job.is_preview else _refund_of(job.hold, "charge"),
            )
            for job in own
        ]
    }


def _keys(user: User) -> dict[str, Any]:
    now = timezone.now()
    own = ApiKey.objects.visible_to(user).order_by("-pk")[:SHOWN]
    return {"keys": [(key, key.works(now), _at("accounts_user_revoke_key", key.pk)) for key in own]}


def _links(user: User) -> dict[str, Any]:
    own = ShareLink.objects.visible_to(user).order_by("-pk")[:SHOWN]
    return {"links": [(link, _at("playground_sharelink_take_down", link.pk)) for link in own]}


def _top_ups(user: User) -> dict[str, Any]:
    return {"top_ups": list(TopUp.objects.visible_to(user).order_by("-created")[:SHOWN])}


def _trail(user: User) -> dict[str, Any]:
    kind = ContentType.objects.get_for_model(User)
    about = LogEntry.objects.filter(content_type=kind, object_id=str(user.pk))
    return {"entries": list(about.select_related("user").order_by("-pk")[:SHOWN])}
