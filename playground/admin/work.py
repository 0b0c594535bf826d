"""Jobs and all that belongs to them, to look at; and the few things that an operator may do to them."""

import uuid
from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts import credits, desk, refunds
from accounts.addresses import canonical
from accounts.admin.books import refund_url
from accounts.admin.people import GIVES_MONEY
from accounts.models import Hold, User
from playground import jobs
from playground.models import DriveBeat, Job, JobEvent, Picture, Route, Run, Switch


def as_id(words: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(words)
    except ValueError:
        return None


def by_id(rows: QuerySet[Any], words: str, column: str = "pk") -> QuerySet[Any]:
    known = as_id(words)
    return rows.filter(**{column: known}) if known else rows.none()


def of_person(rows: QuerySet[Any], words: str) -> QuerySet[Any]:
    return rows.filter(user__canonical_email=canonical(words)) if "@" in words else rows.none()


# --- Jobs ---------------------------------------------------------------------------------------------
class FailureFilter(admin.SimpleListFilter):
    """The known reasons: asking the table which it has would read all of it."""

    title = "failure"
    parameter_name = "failure"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(code, code.replace("_", " ")) for code in jobs.EXPLAINED]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        return queryset.filter(state=Job.State.FAILED, failure=self.value()) if self.value() else queryset


class NowFilter(admin.SimpleListFilter):
    """What is open, as the front page counts it. By ids, which the index of open jobs finds however many have ended."""

    title = "now"
    parameter_name = "now"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("waiting", "waiting"), ("running", "running"), ("overdue", "past its deadline")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        still = Job.objects.open().order_by("next_look")
        wanted = {
            "waiting": still.filter(state=Job.State.QUEUED),
            "running": still.exclude(state=Job.State.QUEUED),
            "overdue": still.filter(deadline__lt=timezone.now()),
        }.get(self.value() or "")
        if wanted is None:
            return queryset
        return queryset.filter(pk__in=list(wanted.values_list("pk", flat=True)[: desk.ShallowPaginator.MOST]))


class EventInline(admin.TabularInline):
    model = JobEvent
    fields = ["at", "state", "note"]
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Job)
class JobDesk(desk.ReadOnly):
    list_display = [
        "short_id",
        "created",
        "state",
        "failure",
        "variant__label",
        "user",
        "is_preview",
        "price",
    ]
    list_select_related = ["variant", "user"]
    list_filter = [NowFilter, "state", FailureFilter, "is_preview"]
    search_fields = ["id"]
    search_help_text = "A job's, run's or picture's id, an upstream id, or a person's address."
    ordering = ["-id"]
    exclude = ["callback_token", "result_urls"]
    inlines = [EventInline]
    actions = ["cancel", "fail_and_release"]

    def found(self, rows: QuerySet[Job], words: str) -> QuerySet[Job]:
        if "@" in words:
            return of_person(rows, words)
        if known := as_id(words):
            of_picture = Picture.objects.filter(pk=known).values_list("job", flat=True)
            return rows.filter(Q(pk__in=[known, *of_picture]) | Q(run=known))
        return rows.filter(provider__in=_providers(), upstream_id=words)

    @admin.display(description="job", ordering="id")
    def short_id(self, job: Job) -> str:
        """Its random end: the beginning is the time, which many share."""
        return job.pk.hex[-8:]

    @admin.display(description="price")
    def price(self, job: Job) -> str:
        return desk.both(job.price_micros)

    def get_readonly_fields(self, request: HttpRequest, obj: Job | None = None) -> list[str]:
        return ["charge", "refund"] if request.user.has_perm(GIVES_MONEY) else ["charge"]

    @admin.display(description="charge")
    def charge(self, job: Job) -> str:
        """What was paid for it, or for keeping it."""
        held = _paid(job)
        said = held and f"{credits.both(held.captured)} charged, {credits.both(held.refunded)} given back"
        return said or "nothing was charged"

    @admin.display(description="refund")
    def refund(self, job: Job) -> SafeString | str:
        held = _paid(job)
        left = refunds.left_of(held) if held else 0
        return (
            format_html('<a href="{}">Refund</a>', refund_url([held.pk]))
            if held and left
            else "nothing is left"
        )

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("playground.change_job")

    @admin.action(description="Cancel the chosen jobs that owe nothing", permissions=["operate"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Job]) -> HttpResponse:
        return self._ask("playground_job_cancel", queryset)

    @admin.action(description="Fail the chosen jobs and release their holds", permissions=["operate"])
    def fail_and_release(self, request: HttpRequest, queryset: QuerySet[Job]) -> HttpResponse:
        return self._ask("playground_job_fail", queryset)

    def _ask(self, page: str, chosen: QuerySet[Job]) -> HttpResponse:
        ids = ",".join(pk.hex for pk in chosen.values_list("pk", flat=True)[: desk.MOST_AT_ONCE])
        return HttpResponseRedirect(f"{reverse(f'admin:{page}')}?ids={ids}")

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("cancel/", wrap(self.cancel_view), name="playground_job_cancel"),
            path("fail/", wrap(self.fail_view), name="playground_job_fail"),
            *super().get_urls(),
        ]

    def cancel_view(self, request: HttpRequest) -> HttpResponse:
        return self._end(request, jobs.cancel, title="Cancel", done="Cancelled")

    def fail_view(self, request: HttpRequest) -> HttpResponse:
        return self._end(request, jobs.give_up, title="Fail and release", done="Failed and released")

    def _end(self, request: HttpRequest, deed: Callable[..., bool], *, title: str, done: str) -> HttpResponse:
        """Asks why: it gives money back."""
        if not self.has_operate_permission(request):
            raise PermissionDenied

        def end(job: Job, asked: dict[str, Any]) -> bool:
            is_ended = deed(job, by=request.user)
            if is_ended:
                self.log_change(request, job, f"{done}: {asked['reason']}")
            return is_ended

        ids = [known for part in request.GET.get("ids", "").split(",") if (known := as_id(part))]
        rows = Job.objects.filter(pk__in=ids[: desk.MOST_AT_ONCE]).order_by("pk")
        return desk.ask(self, request, rows, desk.ReasonForm, end, title=title, done=done)


def _paid(job: Job) -> Hold | None:
    """The person's own hold: that of the job, or that of keeping its preview."""
    picture = Picture.objects.filter(job=job).only("pk").first() if job.is_preview else None
    name = {"business_id": f"keep:{picture.pk}"} if picture else {"pk": job.hold_id}
    holds = Hold.objects.filter(captured__gt=0, wallet__user__isnull=False).select_related("wallet")
    return holds.filter(**name).first()


def _providers() -> list[str]:
    """The index on upstream ids begins with the provider, and there are few of those."""
    return ["sandbox", *Route.objects.values_list("provider", flat=True).distinct()]


@admin.register(JobEvent)
class JobEventDesk(desk.ReadOnly):
    list_display = ["at", "job_link", "state", "note"]
    search_fields = ["job"]
    search_help_text = "A job's id."
    ordering = ["-id"]

    def found(self, rows: QuerySet[JobEvent], words: str) -> QuerySet[JobEvent]:
        return by_id(rows, words, "job")

    @admin.display(description="job")
    def job_link(self, event: JobEvent) -> SafeString:
        return format_html('<a href="{}{}/">{}</a>', desk.changelist_url(Job), event.job_id, event.job_id)


@admin.register(Run)
class RunDesk(desk.ReadOnly):
    list_display = ["id", "created", "user", "pay", "count", "aspect_ratio"]
    list_select_related = ["user"]
    search_fields = ["id"]
    search_help_text = "A run's id, or a person's address."
    ordering = ["-id"]

    def found(self, rows: QuerySet[Run], words: str) -> QuerySet[Run]:
        return of_person(rows, words) if "@" in words else by_id(rows, words)


@admin.register(Picture)
class PictureDesk(desk.ReadOnly):
    """Its particulars. The picture itself is its owner's to show."""

    list_display = ["id", "created", "user", "variant__label", "width", "height", "is_locked", "deleted"]
    list_select_related = ["user", "variant"]
    search_fields = ["id"]
    search_help_text = "A picture's id, or a person's address."
    ordering = ["-id"]

    def found(self, rows: QuerySet[Picture], words: str) -> QuerySet[Picture]:
        return of_person(rows, words) if "@" in words else by_id(rows, words)


@admin.register(DriveBeat)
class DriveBeatDesk(desk.ReadOnly):
    list_display = ["owner", "host", "started", "at", "in_flight", "is_ending"]


# --- The kill switch ----------------------------------------------------------------------------------
class SwitchForm(forms.ModelForm):
    class Meta:
        model = Switch
        fields = ["is_on", "reason"]
        field_classes = {"reason": desk.Reason}

    def clean(self) -> dict[str, Any]:
        asked = super().clean() or self.cleaned_data
        if not asked.get("is_on") and not asked.get("reason"):
            raise ValidationError({"reason": "Say why it is off: whoever finds it off wants to know."})
        return asked


@admin.register(Switch)
class SwitchDesk(desk.Desk):
    """`dispatch` off: nothing new is sent upstream. What was sent is finished; what was ordered waits."""

    form = SwitchForm
    list_display = ["name", "is_on", "reason", "changed", "changed_by"]
    list_select_related = ["changed_by"]
    fields = ["name", "is_on", "reason", "changed", "changed_by"]
    readonly_fields = ["name", "changed", "changed_by"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Switch]:
        """The switch is there before anybody has ever touched it."""
        Switch.objects.get_or_create(name=jobs.DISPATCH)
        return super().get_queryset(request)

    def save_model(self, request: HttpRequest, obj: Switch, form: Any, change: bool) -> None:
        assert isinstance(request.user, User)
        obj.changed_by = request.user
        super().save_model(request, obj, form, change)
