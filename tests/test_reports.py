"""Reports from shared pages: sent by anybody, judged by staff, told to nobody else."""

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.core.cache import cache
from django.test import Client

from accounts.models import User
from playground import reports
from playground.models import Report, ShareLink
from tests.making import give, picture_for, run_for

pytestmark = pytest.mark.django_db
QUEUE = "/admin/playground/report/"
OPEN, DISMISSED, DOWN = Report.Outcome.OPEN, Report.Outcome.DISMISSED, Report.Outcome.TAKEN_DOWN


@pytest.fixture(autouse=True)
def _no_attempts_yet() -> None:
    cache.clear()


@pytest.fixture
def link(alice: User) -> ShareLink:
    give(alice)
    return ShareLink.objects.create(user=alice, picture=picture_for(alice))


def report_at(link: ShareLink, client: Client | None = None, **asked: str) -> Any:
    address = asked.pop("address", "203.0.113.1")
    form = {"reason": "sexual", "note": "Not for children"} | asked
    return (client or Client()).post(f"{link.get_absolute_url()}report/", form, REMOTE_ADDR=address)


def several(link: ShareLink, number: int = 2) -> None:
    for each in range(number):
        reports.submit(link, reason="sexual", note=f"Note {each}", who=f"address {each}")


# --- Reporting ----------------------------------------------------------------------------------------
def test_a_visitor_reports_a_page_without_an_account(link: ShareLink) -> None:
    visitor = Client()
    page = visitor.get(link.get_absolute_url()).content.decode()
    at = f"{link.get_absolute_url()}report/"
    assert f'href="{at}"' in page
    form = visitor.get(at)
    assert form.status_code == 200
    assert form["X-Robots-Tag"] == "noindex, nofollow"
    answer = report_at(link, visitor)
    assert (answer.status_code, answer["Location"]) == (303, f"{at}?sent")
    assert b"Thank you" in visitor.get(answer["Location"]).content
    report = Report.objects.get()
    assert (report.link, report.reason, report.note, report.outcome) == (
        link,
        "sexual",
        "Not for children",
        OPEN,
    )
    assert "203.0.113.1" not in report.reporter
    assert visitor.get(link.get_absolute_url()).status_code == 200


def test_one_person_counts_once_whether_by_address_or_by_account(link: ShareLink, bob: User) -> None:
    for _ in range(2):
        assert report_at(link).status_code == 303
    client = Client()
    client.force_login(bob)
    for address in ("203.0.113.2", "203.0.113.3"):
        assert report_at(link, client, address=address).status_code == 303
    assert Report.objects.count() == 2


def test_a_report_without_a_reason_comes_back_with_what_was_written(link: ShareLink) -> None:
    for asked in ({"reason": ""}, {"reason": "dull"}, {"note": "x" * 1001}):
        answer = report_at(link, **asked)
        assert answer.status_code == 422
    assert b"Not for children" in report_at(link, reason="").content
    assert not Report.objects.exists()


def test_an_address_reports_ten_pages_an_hour_and_loses_nothing_it_wrote(link: ShareLink) -> None:
    for _ in range(10):
        assert report_at(link).status_code == 303
    answer = report_at(link, note="The eleventh")
    assert answer.status_code == 429
    assert b"The eleventh" in answer.content
    assert report_at(link, address="203.0.113.9").status_code == 303


@pytest.mark.parametrize("change", ["revoked", "taken_down"])
def test_a_page_that_is_gone_cannot_be_reported(link: ShareLink, change: str) -> None:
    ShareLink.objects.filter(pk=link.pk).update(**{change: link.created})
    assert Client().get(f"{link.get_absolute_url()}report/").status_code == 404
    assert report_at(link).status_code == 404
    assert Client().get("/s/nonsense/report/").status_code == 404


def test_the_owner_is_told_nothing_about_reports(link: ShareLink, alice: User) -> None:
    several(link)
    owner = Client()
    owner.force_login(alice)
    for path in ("/account/links/", link.get_absolute_url(), link.picture.get_absolute_url()):
        page = owner.get(path).content.decode()
        assert "Note 0" not in page
        assert "2 reports" not in page


# --- The queue ----------------------------------------------------------------------------------------
def test_the_queue_shows_the_most_reported_first_with_pictures_and_words(
    link: ShareLink, alice: User, desk: Client
) -> None:
    worse = ShareLink.objects.create(user=alice, run=run_for(alice, count=1, prompt="a rude fox"))
    several(link, 1)
    several(worse, 3)
    page = desk.get(QUEUE).content.decode()
    assert page.index("3 reports") < page.index("1 report of")
    assert f"/s/{link.token}/{link.picture_id}/thumb/" in page
    for words in ("a rude fox", "Note 2", "It is sexual or shows nudity", "It shows no picture any more"):
        assert words in page
    assert reports.open_count() == 4


def test_the_queue_costs_the_same_however_many_wait(
    link: ShareLink, alice: User, desk: Client, django_assert_max_num_queries: Any
) -> None:
    for _ in range(6):
        several(ShareLink.objects.create(user=alice, picture=picture_for(alice)), 3)
    with django_assert_max_num_queries(11):
        desk.get(QUEUE)
    with django_assert_max_num_queries(1):
        assert reports.open_count() == 18


def test_one_press_takes_the_page_down_and_ends_its_reports(
    link: ShareLink, alice: User, charlie: User, desk: Client
) -> None:
    several(link)
    answer = desk.post(f"{QUEUE}{link.pk}/take-down/", {"reason": "Nudity is not allowed here"}, follow=True)
    assert b"The page is taken down." in answer.content
    assert Client().get(link.get_absolute_url()).status_code == 404
    assert Client().get(f"/s/{link.token}/{link.picture_id}/thumb/").status_code == 404
    assert {(r.outcome, r.handled_by) for r in Report.objects.all()} == {(DOWN, charlie)}
    owner = Client()
    owner.force_login(alice)
    assert b"Nudity is not allowed here" in owner.get("/account/links/").content
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (charlie, str(link.pk))
    assert entry.change_message == "Taken down, 2 reports: Nudity is not allowed here"
    assert reports.open_count() == 0


def test_nothing_is_taken_down_without_a_reason(link: ShareLink, desk: Client) -> None:
    several(link)
    for unseen in (" ", "\u200b"):
        desk.post(f"{QUEUE}{link.pk}/take-down/", {"reason": unseen})
    assert Client().get(link.get_absolute_url()).status_code == 200
    assert reports.open_count() == 2


def test_dismissing_ends_the_reports_that_were_seen_and_no_others(
    link: ShareLink, charlie: User, desk: Client
) -> None:
    several(link)
    seen = Report.objects.latest("pk").pk
    reports.submit(link, reason="illegal", note="Came later", who="somebody")
    desk.post(f"{QUEUE}{link.pk}/dismiss/", {"up_to": seen})
    assert Client().get(link.get_absolute_url()).status_code == 200
    assert [r.outcome for r in Report.objects.order_by("pk")] == [DISMISSED, DISMISSED, OPEN]
    assert LogEntry.objects.get().change_message == "Dismissed, 2 reports."
    desk.post(f"{QUEUE}{link.pk}/dismiss/", {"up_to": "9" * 30})
    assert reports.open_count() == 1


def test_whoever_is_second_finds_it_done(link: ShareLink, bob: User, desk: Client) -> None:
    """A colleague has judged in the meantime: what was dismissed stays up, what was taken down is not told twice."""
    several(link)
    reports.dismiss(link, by=bob, up_to=10**9)
    answer = desk.post(f"{QUEUE}{link.pk}/take-down/", {"reason": "x"}, follow=True)
    assert b"Somebody else has ended these reports already" in answer.content
    assert Client().get(link.get_absolute_url()).status_code == 200
    assert LogEntry.objects.count() == 1


def test_the_takedown_of_a_link_by_hand_ends_its_reports_too(link: ShareLink, bob: User) -> None:
    several(link)
    assert reports.take_down(link, by=bob, reason="Seen by chance")
    assert not reports.take_down(link, by=bob, reason="Again")
    assert set(Report.objects.values_list("outcome", flat=True)) == {DOWN}
    assert LogEntry.objects.count() == 1


def test_staff_without_the_right_look_and_do_nothing(link: ShareLink, bob: User) -> None:
    several(link)
    bob.is_staff = True
    bob.save()
    client = Client()
    client.force_login(bob)
    assert client.get(QUEUE).status_code == 403
    bob.user_permissions.add(Permission.objects.get(codename="view_report"))
    assert b"Hide and take down" not in client.get(QUEUE).content
    assert client.post(f"{QUEUE}{link.pk}/take-down/", {"reason": "x"}).status_code == 403
    assert client.post(f"{QUEUE}{link.pk}/dismiss/", {"up_to": 10}).status_code == 403
    assert client.get(f"{QUEUE}{link.pk}/dismiss/").status_code in (403, 405)
    assert reports.open_count() == 2


def test_all_reports_are_listed_and_searched_without_who_sent_them(link: ShareLink, desk: Client) -> None:
    several(link)
    reports.submit(link, reason="other", note="<script>alert(1)</script>", who="x")
    page = desk.get(f"{QUEUE}history/", {"q": link.get_absolute_url()}).content.decode()
    assert "Note 0" in page
    assert "<script>alert" not in page
    assert "<script>alert" not in desk.get(QUEUE).content.decode()
    one = Report.objects.first()
    assert one
    assert one.reporter not in desk.get(f"{QUEUE}{one.pk}/change/").content.decode()
    assert b"Note" not in desk.get(f"{QUEUE}history/?outcome__exact=dismissed").content
