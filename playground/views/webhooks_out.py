"""The pages of outgoing webhooks: endpoints, their secrets, and what became of each message."""

import uuid
from collections.abc import Callable
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Q, QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import names
from playground import endpoints, outbox, posting
from playground.http import Request, SeeOther, back
from playground.models import Delivery, WebhookEndpoint
from playground.views.gallery import as_id

PAGE = 30
SOON_S = 20  # a message that is due so soon is worth watching


class NoteForm(forms.Form):
    note = forms.CharField(
        max_length=100,
        required=False,
        label="Note",
        help_text="To tell it from others.",
        validators=[names.check],
    )


class EndpointForm(NoteForm):
    url = forms.CharField(
        max_length=posting.LONGEST_URL,
        label="Address",
        help_text="Such as https://example.com/flux-hook. It must be on the public internet: its name is looked up now, and again whenever something is sent.",
        widget=forms.URLInput,
    )
    field_order = ["url", "note"]

    def clean_url(self) -> str:
        url: str = self.cleaned_data["url"]
        if why := posting.check_lookup(url, settings.NET_ALLOWED_HOSTS):
            raise forms.ValidationError(why)
        return url


# --- Endpoints ----------------------------------------------------------------------------------------
@require_http_methods(["GET", "HEAD", "POST"])
@login_required
@cache_control(private=True, no_cache=True)
def webhooks(request: Request) -> HttpResponse:
    """The endpoints; a POST adds one."""
    if request.method != "POST":
        return _list(request, EndpointForm())
    form = EndpointForm(request.POST)
    if form.is_valid():
        try:
            made = endpoints.add(request.user, form.cleaned_data["url"], form.cleaned_data["note"])
        except endpoints.Refused as no:
            form.add_error("url", str(no))
        else:
            messages.success(request, "Added. Send it a test, and check the signature with its secret.")
            return SeeOther(reverse("webhook", args=[made.pk]))
    return _list(request, form, status=422)


def _list(request: Request, form: forms.Form, *, status: int = 200) -> HttpResponse:
    there = endpoints.of(request.user)
    context = {
        "rows": [(endpoint, _latest(endpoint)) for endpoint in there],
        "form": form,
        "most": endpoints.MOST,
        "has_room": len(there) < endpoints.MOST,
        "calls": WebhookEndpoint.objects.visible_to(request.user).filter(url="").first(),
    }
    return render(request, "webhooks.html", context, status=status)


def _latest(endpoint: WebhookEndpoint) -> Delivery | None:
    return endpoint.deliveries.order_by("-created", "-id").first()


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
@cache_control(private=True, no_store=True)
def webhook(request: Request, endpoint_id: uuid.UUID) -> HttpResponse:
    """One endpoint; a POST changes its note."""
    endpoint = _own(request, endpoint_id)
    if request.method != "POST":
        return _page(request, endpoint, NoteForm({"note": endpoint.note}))
    form = NoteForm(request.POST)
    if not form.is_valid():
        return _page(request, endpoint, form, status=422)
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(note=form.cleaned_data["note"])
    messages.success(request, "The note is saved.")
    return SeeOther(reverse("webhook", args=[endpoint.pk]))


def _page(
    request: Request,
    endpoint: WebhookEndpoint,
    form: forms.Form,
    *,
    status: int = 200,
    shows_secret: bool = False,
) -> HttpResponse:
    until = endpoint.old_secret_until
    failed = endpoint.deliveries.filter(state=Delivery.State.FAILED).exclude(event=outbox.TEST)
    context = {
        "endpoint": endpoint,
        "form": form,
        "latest": _latest(endpoint),
        "is_rotating": bool(endpoint.old_secret) and until is not None and until > timezone.now(),
        "shows_secret": shows_secret,
        "rotation": rotation(endpoint),
        "has_failed": failed.exists(),
    }
    return render(request, "webhook.html", context, status=status)


@require_POST
@login_required
@cache_control(private=True, no_store=True)
def webhook_secret(request: Request, endpoint_id: uuid.UUID) -> HttpResponse:
    """The page once more, with the secret on it."""
    endpoint = _own(request, endpoint_id)
    return _page(request, endpoint, NoteForm({"note": endpoint.note}), shows_secret=True)


@require_POST
@login_required
def webhook_calls(request: Request) -> HttpResponse:
    """Makes the secret that signs what goes to the `callBackUrl` of single calls, before the first of them."""
    return SeeOther(reverse("webhook", args=[endpoints.for_calls(request.user.pk).pk]))


def rotation(endpoint: WebhookEndpoint) -> str:
    """Which of its secrets a page was drawn with, without telling it."""
    return endpoint.old_secret_until.isoformat() if endpoint.old_secret_until else ""


def _own(request: Request, endpoint_id: uuid.UUID) -> WebhookEndpoint:
    own = WebhookEndpoint.objects.visible_to(request.user).filter(removed=None)
    found: WebhookEndpoint = get_object_or_404(own, pk=endpoint_id)
    return found


# --- What can be done with one ------------------------------------------------------------------------
def _switch_on(endpoint: WebhookEndpoint) -> str:
    endpoints.switch_on(endpoint)
    return "It is on: the next job that ends is told to it."


def _switch_off(endpoint: WebhookEndpoint) -> str:
    stopped = outbox.switch_off(endpoint)
    return f"It is off. {stopped} waiting deliveries were stopped." if stopped else "It is off."


def _rotate(endpoint: WebhookEndpoint) -> str:
    endpoints.rotate(endpoint)
    return "There is a new secret. The old one signs beside it for 24 hours."


def _forget(endpoint: WebhookEndpoint) -> str:
    endpoints.forget_old_secret(endpoint)
    return "The old secret signs nothing any more."


def _test(endpoint: WebhookEndpoint) -> str:
    return "A test is on its way." if outbox.send_test(endpoint) else "A test is on its way already."


def _resend(endpoint: WebhookEndpoint) -> str:
    if not endpoint.is_on:
        return "Switch it on first."
    sent = outbox.resend_failed(endpoint)
    return f"{sent} failed deliveries are sent again." if sent else "No delivery has failed."


def _remove(endpoint: WebhookEndpoint) -> str:
    outbox.remove(endpoint)
    return f"{endpoint.url} is removed."


# Of the secret of single calls only the secret is there to be changed.
_SECRETS: dict[str, Callable[[WebhookEndpoint], str]] = {"rotate": _rotate, "forget": _forget}
_DEEDS = _SECRETS | {
    "on": _switch_on,
    "off": _switch_off,
    "test": _test,
    "resend": _resend,
    "remove": _remove,
}


@require_POST
@login_required
def webhook_do(request: Request, endpoint_id: uuid.UUID, deed: str) -> HttpResponse:
    endpoint = _own(request, endpoint_id)
    known = _DEEDS if endpoint.url else _SECRETS
    if deed not in known:
        raise Http404
    if deed == "rotate" and request.POST.get("seen", rotation(endpoint)) != rotation(endpoint):
        messages.info(
            request, "It has just been rotated."
        )  # a double click, which must not lose the old secret
    else:
        messages.success(request, known[deed](endpoint))
    if deed == "remove":
        return redirect("webhooks")
    watched = f"{reverse('webhook_deliveries')}?endpoint={endpoint.pk}"
    return back(request, watched if deed in ("test", "resend") else reverse("webhook", args=[endpoint.pk]))


# --- Deliveries ---------------------------------------------------------------------------------------
@require_safe
@login_required
@cache_control(private=True, no_cache=True)
def webhook_deliveries(request: Request) -> HttpResponse:
    """Newest first; `endpoint` and `state` in the address narrow them, `before` is the last one seen."""
    there, state = endpoints.of(request.user), request.GET.get("state", "")
    own = Delivery.objects.visible_to(request.user)
    chosen = as_id(request.GET.get("endpoint", ""))
    narrowed = own.filter(endpoint=chosen) if chosen else own
    if state in Delivery.State.values:
        narrowed = narrowed.filter(state=state)
    found = list(
        _older(narrowed, own, as_id(request.GET.get("before", "")))
        .select_related("endpoint")
        .prefetch_related("tries")[: PAGE + 1]
    )
    context = {
        "rows": [Row(delivery) for delivery in found[:PAGE]],
        "older": found[PAGE - 1].pk if len(found) > PAGE else None,
        "endpoints": there,
        "calls": WebhookEndpoint.objects.visible_to(request.user).filter(url="").first(),
        "chosen": chosen,
        "state": state,
        "states": Delivery.State.values,
        "is_moving": any(_is_due_soon(delivery) for delivery in found[:PAGE]),
    }
    return render(request, "webhook_deliveries.html", context)


def _older(rows: QuerySet[Delivery], own: QuerySet[Delivery], before: Any) -> QuerySet[Delivery]:
    """A page of a keyset. The cursor is the id of the last one seen, whatever the filters."""
    last = own.filter(pk=before).first() if before else None
    if last is not None:
        rows = rows.filter(Q(created__lt=last.created) | Q(created=last.created, pk__lt=last.pk))
    return rows.order_by("-created", "-id")


def _is_due_soon(delivery: Delivery) -> bool:
    waits = (delivery.next_try - timezone.now()).total_seconds()
    return delivery.ended is None and waits < SOON_S


class Row:
    """A delivery as the list shows it."""

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.tries = list(delivery.tries.all())
        self.last = self.tries[-1] if self.tries else None

    @property
    def to(self) -> str:
        """The host and path: what a person tells addresses apart by."""
        return self.delivery.url.partition("://")[2]

    @property
    def can_resend(self) -> bool:
        return self.delivery.ended is not None and _takes(self.delivery)


def _takes(delivery: Delivery) -> bool:
    endpoint = delivery.endpoint
    return (
        endpoint is not None
        and endpoint.removed is None
        and (endpoint.is_on or delivery.event == outbox.TEST)
    )


@require_POST
@login_required
def webhook_resend(request: Request, delivery_id: uuid.UUID) -> HttpResponse:
    own = Delivery.objects.visible_to(request.user).select_related("endpoint")
    delivery = get_object_or_404(own, pk=delivery_id)
    if not _takes(delivery):
        messages.error(request, "Its endpoint is off or was removed. Switch it on, then send this again.")
    elif outbox.resend(delivery):
        messages.success(request, "It is sent again, under the same webhook-id.")
    else:
        messages.info(request, "It is on its way already.")
    return back(request, reverse("webhook_deliveries"))
