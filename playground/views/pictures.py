"""One picture: its page and receipt, its bytes, keeping it, deleting it and thinking better of it."""

import uuid

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_POST, require_safe

from accounts import ledger
from accounts.models import Transfer
from playground import jobs, offers, orders, receipts, upkeep
from playground.http import Request, SeeOther, back, refusal
from playground.models import Job, Picture, PictureQuerySet
from playground.views import files
from playground.views.inputs import first_there, inputs_of


def _own(request: Request, picture_id: uuid.UUID) -> Picture:
    """The picture, also when it is deleted: its receipt stays. A stranger's does not exist."""
    own = Picture.objects.visible_to(request.user).select_related("job__hold", "job__run", "variant", "user")
    return get_object_or_404(own, pk=picture_id)


@require_safe
@login_required
@cache_control(private=True, no_cache=True)
def picture(request: Request, picture_id: uuid.UUID) -> HttpResponse:
    shown = _own(request, picture_id)
    others = Picture.objects.visible_to(request.user).kept()
    made_from = inputs_of(shown.job.run) if shown.job.params.get("inputs") else []
    kept_charge = Transfer.objects.filter(business_id=f"keep:{shown.pk}").select_related("hold").first()
    context = {
        "picture": shown,
        "inputs": made_from,
        "before": None if shown.deleted else first_there(made_from),
        "job": shown.job,
        "size": files.shown_size(shown),
        "kept_charge": kept_charge,
        "refunds": _refunds(shown.job, kept_charge),
        "can_undo": _can_undo(shown),
        "undo_hours": int(upkeep.UNDO_FOR.total_seconds() // 3600),
        "newer": others.filter(pk__gt=shown.pk).order_by("pk").first(),
        "older": others.newest_first(shown.pk).first(),
        "pixels": files.shown_pixels(shown),
        "timeline": receipts.timeline(shown.job),
    }
    return render(request, "picture.html", context)


def _refunds(made: Job, kept: Transfer | None) -> list[Transfer]:
    """What was given back of the picture's price; only a hold that says so is asked."""
    paid = kept.hold if kept else made.hold
    if paid is None or not paid.refunded:
        return []
    return list(Transfer.objects.filter(hold=paid, kind=Transfer.Kind.REFUND).order_by("pk"))


@require_safe
@login_required
def job(request: Request, job_id: uuid.UUID) -> HttpResponse:
    """Where a statement's line leads: to the picture, to the receipt of what has none, or to the run while it is made."""
    rows = Job.objects.visible_to(request.user).select_related("run", "picture", "variant", "hold", "user")
    asked = get_object_or_404(rows.select_related("retried_by"), pk=job_id)
    if made := getattr(asked, "picture", None):
        return redirect(made)
    return _receipt(request, asked) if asked.is_final else redirect(asked.run)


def _receipt(request: Request, ended: Job) -> HttpResponse:
    context = {
        "job": ended,
        "heading": receipts.heading(ended),
        "why": jobs.why(ended) if ended.state == Job.State.FAILED else "",
        "is_refusal": receipts.is_refusal(ended),
        "detail": receipts.detail(ended),
        "asked": receipts.asked(ended),
        "timeline": receipts.timeline(ended),
        "inputs": inputs_of(ended.run) if ended.params.get("inputs") else [],
        "retried_by": getattr(ended, "retried_by", None),
        "retry": offers.retries([ended])[ended.pk],
    }
    return render(request, "job.html", context)


# --- Bytes --------------------------------------------------------------------------------------------
@require_safe
@login_required
def picture_image(request: Request, picture_id: uuid.UUID, size: str) -> HttpResponseBase:
    shown = get_object_or_404(_with_files(request), pk=picture_id)
    cache = files.ASKED_ONCE if size == "thumb" else files.ASKED_EACH_TIME
    return files.send(request, shown, size, cache=cache)


@require_safe
@login_required
def picture_download(request: Request, picture_id: uuid.UUID) -> HttpResponseBase:
    """The original as a file, byte for byte; a preview has none to give until it is kept."""
    shown = get_object_or_404(_with_files(request), pk=picture_id)
    return files.send(request, shown, "original", as_attachment=True)


def _with_files(request: Request) -> PictureQuerySet:
    return Picture.objects.visible_to(request.user).kept().select_related("job", "variant")


# --- What its owner does ------------------------------------------------------------------------------
@require_POST
@login_required
def picture_keep(request: Request, picture_id: uuid.UUID) -> HttpResponse:
    """Charges a preview's price and unlocks its original, once however often it is clicked."""
    wanted = _own(request, picture_id)
    try:
        if orders.keep(wanted):
            messages.success(request, "Kept: the full-size picture is yours.")
    except ledger.Refusal as no:
        messages.error(request, refusal(no))
    return back(request, wanted.get_absolute_url())


@require_POST
@login_required
def picture_delete(request: Request, picture_id: uuid.UUID) -> HttpResponse:
    unwanted = _own(request, picture_id)
    Picture.objects.filter(pk=unwanted.pk, deleted__isnull=True).update(deleted=timezone.now())
    return SeeOther(f"{reverse('gallery')}?deleted={unwanted.pk}")


@require_POST
@login_required
def picture_undelete(request: Request, picture_id: uuid.UUID) -> HttpResponse:
    """Brings it back while its files are still there. The sweep takes only what is older than that."""
    missed = _own(request, picture_id)
    recent = Picture.objects.filter(pk=missed.pk, deleted__gt=timezone.now() - upkeep.UNDO_FOR)
    if recent.exclude(key="").update(deleted=None):
        messages.success(request, "It is back.")
    elif missed.deleted:
        messages.error(request, "Its files are erased by now, so it cannot be brought back.")
    return SeeOther(missed.get_absolute_url())


def _can_undo(shown: Picture) -> bool:
    is_recent = shown.deleted is not None and shown.deleted > timezone.now() - upkeep.UNDO_FOR
    return is_recent and shown.key != ""
