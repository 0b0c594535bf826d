"""What the house's mails look like, in text and in HTML. To look at: nothing is sent from here."""

from csp.decorators import csp, csp_update
from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.http import require_safe

from accounts.mail_samples import BY_SLUG, SAMPLES, Sample

# A mail's styles stand in its tags, and its links lead nowhere: it is shown in a frame that may do nothing at all.
_OF_MAIL = {
    "default-src": ["'none'"],
    "style-src": ["'unsafe-inline'"],
    "frame-ancestors": ["'self'"],
    "base-uri": ["'none'"],
    "form-action": ["'none'"],
    "sandbox": [],
}


@require_safe
@csp_update({"frame-src": ["'self'"]})
@admin.site.admin_view
def mails(request: HttpRequest, slug: str = "") -> HttpResponse:
    sample = _sample(slug) if slug else SAMPLES[0]
    context = {
        **admin.site.each_context(request),
        "title": "Mails",
        "samples": SAMPLES,
        "sample": sample,
        "mail": sample.mail(request),
    }
    return render(request, "admin/mails.html", context)


@require_safe
@csp(_OF_MAIL)  # type: ignore[arg-type]
@xframe_options_sameorigin
@admin.site.admin_view
def mail_html(request: HttpRequest, slug: str) -> HttpResponse:
    mail = _sample(slug).mail(request)
    return HttpResponse(str(mail.alternatives[0][0]))


def _sample(slug: str) -> Sample:
    if slug not in BY_SLUG:
        raise Http404
    return BY_SLUG[slug]
