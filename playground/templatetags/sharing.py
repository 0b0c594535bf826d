"""`{% share_box run %}` or `{% share_box picture %}`: the owner's link to it, or the form that makes one."""

from typing import Any

from django import template
from django.template import RequestContext
from django.urls import reverse

from playground.http import absolute
from playground.models import Picture, Run

register = template.Library()


@register.inclusion_tag("_share.html", takes_context=True)
def share_box(context: RequestContext, thing: Run | Picture) -> dict[str, Any]:
    request = context["request"]
    link = thing.share_links.filter(revoked__isnull=True).first()
    is_run = isinstance(thing, Run)
    return {
        "link": link,
        "url": absolute(request, link.get_absolute_url()) if link else "",
        "what": "run" if is_run else "picture",
        "create_url": reverse("share_run" if is_run else "share_picture", args=[thing.pk]),
        "here": request.get_full_path(),
    }
