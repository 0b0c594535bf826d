"""Links that show a picture or a run to whoever has them: nothing is public before, and nothing after."""

import hashlib
import uuid
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.cache import cache
from django.db import IntegrityError, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from playground import images
from playground.http import Request, absolute, back
from playground.models import Picture, PictureQuerySet, Run, ShareLink
from playground.views import files

LINKS_A_PAGE = 50
SOCIAL_PICTURES = 4
SOCIAL_FOR_S = 86_400
TAKEN_DOWN = "The operator took the link to this down, so it cannot be shared again."


# --- What the owner does ------------------------------------------------------------------------------
@require_POST
@login_required
def share_run(request: Request, run_id: uuid.UUID) -> HttpResponse:
    run = get_object_or_404(Run.objects.visible_to(request.user), pk=run_id)
    _share(request, run=run)
    return back(request, run.get_absolute_url())


@require_POST
@login_required
def share_picture(request: Request, picture_id: uuid.UUID) -> HttpResponse:
    picture = get_object_or_404(Picture.objects.visible_to(request.user).kept(), pk=picture_id)
    if Picture.objects.filter(pk=picture.pk).shareable().exists():
        _share(request, picture=picture)
    else:
        messages.error(request, TAKEN_DOWN)
    return back(request, picture.get_absolute_url())


def _share(request: Request, **thing: Any) -> None:
    """One link for each thing: asking again changes whether the prompt is shown, never the address."""
    shows_prompt = request.POST.get("shows_prompt") == "on"
    open_links = ShareLink.objects.filter(revoked__isnull=True, **thing)
    try:
        with transaction.atomic():
            ShareLink.objects.create(user=request.user, shows_prompt=shows_prompt, **thing)
    except IntegrityError:
        if not open_links.live().update(shows_prompt=shows_prompt):
            messages.error(request, TAKEN_DOWN)


@require_POST
@login_required
def share_revoke(request: Request, token: str) -> HttpResponse:
    """What was taken down stays on the books, so that revoking it does not open the way to a new link."""
    link = get_object_or_404(ShareLink.objects.visible_to(request.user), token=token)
    if ShareLink.objects.live().filter(pk=link.pk).update(revoked=timezone.now()):
        messages.success(request, "The link is dead: its page and its pictures are gone for everybody.")
    return back(request, reverse("share_links"))


@require_safe
@login_required
def share_links(request: Request) -> HttpResponse:
    """Every link its owner ever made, newest first."""
    before = request.GET.get("before", "")
    own = ShareLink.objects.visible_to(request.user)
    rows = own.newest_first(int(before) if before.isdecimal() and len(before) < 19 else None)
    found = list(rows.select_related("run", "picture__job", "picture__variant")[: LINKS_A_PAGE + 1])
    links = found[:LINKS_A_PAGE]
    context = {"links": links, "older": links[-1].pk if len(found) > LINKS_A_PAGE else None}
    return render(request, "share_links.html", context)


# --- What the world sees ------------------------------------------------------------------------------
def unlisted(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """No search engine, no referrer elsewhere, and no copy that outlives the link."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = view(request, *args, **kwargs)
        response["X-Robots-Tag"] = "noindex, nofollow"
        response["Referrer-Policy"] = "same-origin"
        response.setdefault("Cache-Control", "private, no-store")
        return response

    return wrapped


@require_safe
@unlisted
def share(request: Request, token: str) -> HttpResponse:
    link = live_link(token)
    pictures = list(_pictures(link))
    if link.picture_id and not pictures:
        raise Http404
    context = {
        "link": link,
        "pictures": [
            (picture, files.shown_size(picture), files.shown_pixels(picture)) for picture in pictures
        ],
        "prompt": _prompt(link),
        "url": absolute(request, link.get_absolute_url()),
        "social_url": absolute(request, reverse("share_social", args=[token])) if pictures else "",
        "labels": list(dict.fromkeys(picture.variant.label for picture in pictures)),
    }
    return render(request, "share.html", context)


@require_safe
@unlisted
def share_image(request: Request, token: str, picture_id: uuid.UUID, size: str) -> HttpResponseBase:
    link = live_link(token)
    picture = get_object_or_404(_pictures(link), pk=picture_id)
    return files.send(request, picture, size, shows_prompt=link.shows_prompt)


@require_safe
@unlisted
def share_social(request: Request, token: str) -> HttpResponse:
    """The picture that messengers show beside the link. Drawn once a day for each state of what it shows."""
    pictures = list(_pictures(live_link(token))[:SOCIAL_PICTURES])
    state = [(str(picture.pk), picture.is_locked) for picture in pictures]
    key = "social:" + hashlib.sha256(repr((token, state)).encode()).hexdigest()
    data = cache.get(key)
    if data is None:
        data = _draw_social(pictures)
        cache.set(key, data, SOCIAL_FOR_S)
    return HttpResponse(data, content_type="image/jpeg")


def _draw_social(pictures: list[Picture]) -> bytes:
    if not pictures:
        raise Http404
    paths = [images.path(p.key, files.shown_size(p), p.format) for p in pictures]
    try:
        return images.social(paths)
    except (OSError, images.ImageError) as error:
        raise Http404 from error


def live_link(token: str) -> ShareLink:
    """The link, while its owner wants it and the operator lets it be."""
    links = ShareLink.objects.live().filter(user__is_active=True).select_related("run", "picture__job")
    return get_object_or_404(links, token=token)


def _pictures(link: ShareLink) -> PictureQuerySet:
    """What it shows now: a picture that was deleted is gone from here too."""
    shared = Picture.objects.filter(pk=link.picture_id) if link.picture_id else _of_run(link)
    return shared.kept().shareable().exclude(key="").select_related("variant", "job")


def _of_run(link: ShareLink) -> PictureQuerySet:
    return Picture.objects.filter(job__run=link.run_id).order_by(
        "job__price_micros", "variant", "job__ordinal"
    )


def _prompt(link: ShareLink) -> str:
    if not link.shows_prompt:
        return ""
    if link.run:
        return link.run.prompt
    return link.picture.job.params["prompt"] if link.picture else ""
