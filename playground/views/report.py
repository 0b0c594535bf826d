"""“Report this”: for whoever sees a shared page, with or without an account, with or without JavaScript."""

from allauth.account.adapter import get_adapter
from allauth.core import ratelimit
from django import forms
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from playground import reports
from playground.http import Request, SeeOther
from playground.models import Report
from playground.views.share import live_link, unlisted


class ReportForm(forms.Form):
    reason = forms.ChoiceField(
        label="What is wrong with it?",
        choices=Report.Reason,
        widget=forms.RadioSelect,
        error_messages={
            "required": "Choose what is wrong with it.",
            "invalid_choice": "Choose one of these.",
        },
    )
    note = forms.CharField(
        label="Anything else that helps us judge",
        required=False,
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 4}),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@unlisted
def report(request: Request, token: str) -> HttpResponse:
    link = live_link(token)
    form = ReportForm(request.POST or None)
    context = {"link": link, "form": form, "is_sent": "sent" in request.GET}
    if request.method != "POST":
        return render(request, "report.html", context)
    if not form.is_valid():
        return render(request, "report.html", context, status=422)
    if not ratelimit.consume(request, action="report"):
        return render(request, "report.html", {**context, "is_too_often": True}, status=429)
    reports.submit(link, **form.cleaned_data, who=_who(request))
    return SeeOther(f"{reverse('share_report', args=[token])}?sent")


def _who(request: Request) -> str:
    """One account is one person, and so is one address without an account."""
    if request.user.is_authenticated:
        return f"user {request.user.pk}"
    return f"address {get_adapter().get_client_ip(request)}"
