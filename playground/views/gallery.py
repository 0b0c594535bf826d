"""The owner's pictures, newest first."""

import uuid
from typing import Any

from django.contrib.auth.decorators import login_required
from django.db.models import Exists, OuterRef
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from playground.http import Request
from playground.models import Picture, Variant

PAGE = 48
PICKS = 24


@require_safe
@login_required
@vary_on_headers("HX-Target")
def gallery(request: Request) -> HttpResponse:
    """A page of tiles, or, for htmx, the tiles that come after the last one."""
    own = Picture.objects.visible_to(request.user).kept()
    made_by = _chosen(request)
    rows = own.filter(variant=made_by) if made_by else own
    before = as_id(request.GET.get("before", ""))
    found = list(rows.newest_first(before).select_related("job", "variant")[: PAGE + 1])
    pictures = found[:PAGE]
    context = {
        "pictures": pictures,
        "older": pictures[-1].pk if len(found) > PAGE else None,
        "is_first_page": before is None,
        "made_by": made_by,
    }
    if request.htmx.target == "more":
        return render(request, "gallery.html#tiles", context)
    return render(request, "gallery.html", context | _frame(request))


@require_safe
@login_required
def gallery_pick(request: Request) -> HttpResponse:
    """For the playground's dialog: the newest pictures to pick from, or those that come after the last one."""
    own = Picture.objects.visible_to(request.user).kept().exclude(key="")
    before = as_id(request.GET.get("before", ""))
    found = list(own.newest_first(before).select_related("job", "variant")[: PICKS + 1])
    context = {"pictures": found[:PICKS], "older": found[PICKS - 1].pk if len(found) > PICKS else None}
    return render(request, f"_picker.html#{'pictures' if before else 'first'}", context)


def _chosen(request: Request) -> Variant | None:
    slug = request.GET.get("variant", "")[:160].replace("\x00", "")
    return Variant.objects.filter(slug=slug).first() if slug else None


def _frame(request: Request) -> dict[str, Any]:
    """What stands around the tiles: the variants to filter by, and the picture that was deleted a moment ago."""
    own = Picture.objects.visible_to(request.user)
    deleted = as_id(request.GET.get("deleted", ""))
    return {
        "variants": Variant.objects.filter(Exists(own.kept().filter(variant=OuterRef("pk")))),
        "deleted": own.filter(pk=deleted, deleted__isnull=False).exclude(key="").first() if deleted else None,
    }


def as_id(text: str) -> uuid.UUID | None:
    """None for what is no id, so that a mangled address is the first page and not an error."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
