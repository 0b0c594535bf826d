"""What people say is wrong with shared pages, and what staff make of it. Whoever is second finds it done, and does nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import IntegrityError, transaction
from django.db.models import Count, Max, Min
from django.utils import timezone
from django.utils.crypto import salted_hmac

from accounts import trail
from accounts.models import User
from playground.models import Picture, Report, ShareLink

MOST_COUNTED = 1000
THUMBS = 6
SHOWN_REPORTS = 20


def submit(link: ShareLink, *, reason: str, note: str, who: str) -> bool:
    """False where this person has reported this link before. `who` is kept as a digest that leads nobody back."""
    digest = salted_hmac("playground.reports", f"{link.pk}:{who}", algorithm="sha256").hexdigest()
    try:
        with transaction.atomic():
            Report.objects.create(link=link, reason=reason, note=note, reporter=digest)
    except IntegrityError:
        return False
    return True


def open_count() -> int:
    """How many wait, for the desk's front page: one query by an index, and no further than a thousand."""
    return Report.objects.filter(outcome=Report.Outcome.OPEN)[:MOST_COUNTED].count()


# --- The queue ----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Case:
    """A link with everything that is open about it. `up_to`: the newest report that whoever looks has seen."""

    link: ShareLink
    number: int
    up_to: int
    reports: list[Report]
    pictures: list[Picture]

    @property
    def prompt(self) -> str:
        link = self.link
        return link.run.prompt if link.run else link.picture.job.params["prompt"] if link.picture else ""

    @property
    def is_public(self) -> bool:
        return self.link.revoked is None and self.link.taken_down is None and self.link.user.is_active

    @property
    def suggestion(self) -> str:
        """What the owner could be told: the reason that most of the reporters gave."""
        given = [report.get_reason_display() for report in self.reports]
        return f"Reported: {max(given, key=given.count).lower()}." if given else ""


def cases(most: int) -> list[Case]:
    """The links with open reports, those with the most reports first, then the oldest: five queries."""
    is_open = Report.objects.filter(outcome=Report.Outcome.OPEN)
    grouped = is_open.values("link").annotate(number=Count("id"), first=Min("id"), last=Max("id"))
    top = list(grouped.order_by("-number", "first")[:most])
    ids = [row["link"] for row in top]
    links = ShareLink.objects.select_related("user", "run", "picture__job").in_bulk(ids)
    reports: dict[int, list[Report]] = {pk: [] for pk in ids}
    for report in is_open.filter(link__in=ids).order_by("-id")[: most * 100]:
        reports[report.link_id].append(report)
    pictures = _pictures(list(links.values()))
    return [
        Case(
            link=links[row["link"]],
            number=row["number"],
            up_to=row["last"],
            reports=reports[row["link"]][:SHOWN_REPORTS],
            pictures=pictures[row["link"]][:THUMBS],
        )
        for row in top
    ]


def _pictures(links: Sequence[ShareLink]) -> dict[int, list[Picture]]:
    """What each link shows now."""
    shown = Picture.objects.kept().shareable().exclude(key="").select_related("variant", "job")
    single = {p.pk: p for p in shown.filter(pk__in=[link.picture_id for link in links if link.picture_id])}
    of_run: dict[object, list[Picture]] = {}
    for picture in shown.filter(job__run__in=[link.run_id for link in links if link.run_id]).order_by("pk"):
        of_run.setdefault(picture.job.run_id, []).append(picture)
    return {
        link.pk: [single[link.picture_id]]
        if link.picture_id in single
        else of_run.get(link.run_id, [])
        if link.run_id
        else []
        for link in links
    }


# --- What staff do ------------------------------------------------------------------------------------
def take_down(link: ShareLink, *, by: User, reason: str, is_case: bool = False) -> bool:
    """Hides what the link shows, tells its owner why, and ends its reports. False: there was nothing left to do.

    `is_case`: it is about the reports. Then it is done only while one of them is open, so that what a colleague has
    just dismissed stays up.
    """
    with transaction.atomic():
        _hold(link)
        ended = _end(link, by, Report.Outcome.TAKEN_DOWN)
        if is_case and not ended:
            return False
        up = ShareLink.objects.filter(pk=link.pk, taken_down__isnull=True)
        hidden = up.update(taken_down=timezone.now(), takedown_reason=reason)
        if not hidden and not ended:
            return False
        trail.log(by, link, f"Taken down{_about(ended)}: {reason}")
    return True


def dismiss(link: ShareLink, *, by: User, up_to: int, reason: str = "") -> bool:
    """Lets the link be. Only the reports up to that id: nobody dismisses what they have not seen."""
    with transaction.atomic():
        _hold(link)
        ended = _end(link, by, Report.Outcome.DISMISSED, up_to=up_to)
        if ended:
            trail.log(by, link, f"Dismissed{_about(ended)}{f': {reason}' if reason else '.'}")
    return bool(ended)


def put_back(link: ShareLink, *, by: User) -> bool:
    with transaction.atomic():
        down = ShareLink.objects.filter(pk=link.pk, taken_down__isnull=False)
        if not down.update(taken_down=None, takedown_reason=""):
            return False
        trail.log(by, link, "Put back.")
    return True


def _hold(link: ShareLink) -> None:
    """One member of the staff at a time: the second waits here, and then finds nothing open."""
    ShareLink.objects.select_for_update().filter(pk=link.pk).values_list("pk").first()


def _end(link: ShareLink, by: User, outcome: str, *, up_to: int | None = None) -> int:
    still_open = Report.objects.filter(link=link, outcome=Report.Outcome.OPEN)
    if up_to is not None:
        still_open = still_open.filter(pk__lte=up_to)
    return still_open.update(outcome=outcome, handled=timezone.now(), handled_by=by)


def _about(ended: int) -> str:
    return f", {ended} report{'s' if ended > 1 else ''}" if ended else ""
