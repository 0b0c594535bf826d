"""Every mail of the house: in text and HTML, the same words in both, and shown to staff."""

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core import mail
from django.test import Client

from accounts import mails
from accounts.mail_samples import BY_SLUG, SAMPLES
from accounts.models import User

pytestmark = pytest.mark.django_db

FOLDERS = ("mail", "account/email", "mfa/email")


@pytest.fixture
def desk(client: Client, charlie: User) -> Client:
    client.force_login(charlie)
    return client


@pytest.mark.once
def test_every_mail_that_has_a_template_is_among_the_samples() -> None:
    """A template that nobody previews is one that nobody looked at."""
    root = Path(django_settings.BASE_DIR) / "templates"
    named = {path.name for folder in FOLDERS for path in (root / folder).glob("*_subject.txt")}
    assert {name.removesuffix("_subject.txt") for name in named} == set(BY_SLUG)


@pytest.mark.once
def test_every_mail_that_allauth_may_send_has_words_of_ours() -> None:
    import allauth  # noqa: PLC0415

    theirs = Path(allauth.__file__).parent / "templates"
    off = {"login_code", "password_reset_code"}  # ways in that are not switched on here
    for folder in FOLDERS[1:]:
        for subject in (theirs / folder).glob("*_subject.txt"):
            assert subject.name.removesuffix("_subject.txt") in set(BY_SLUG) | off


@pytest.mark.parametrize("slug", sorted(BY_SLUG))
def test_staff_see_it_in_text_and_html_with_the_same_words(desk: Client, slug: str) -> None:
    shown = desk.get(f"/admin/mails/{slug}/")
    sent = shown.context["mail"]
    html = desk.get(f"/admin/mails/{slug}/html/").content.decode()
    for whole in (shown.content.decode(), sent.body, html):
        assert "{{" not in whole and "{%" not in whole and "None" not in re.sub(r"<[^>]*>", "", whole)
    words = unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html.split("<body")[1])))
    assert sent.subject in words and "\n" not in sent.subject
    for sentence in re.findall(r"\b[A-Z][a-z][^.:,\n]{25,}\.(?=\s)", sent.body):
        assert sentence[1:].replace('"', "") in words.replace("“", "").replace("”", ""), sentence
    assert set(re.findall(r"https://flux.example/a-link", sent.body)) <= set(
        re.findall(r"https://[\w./-]+", html)
    )


def test_the_frame_of_a_mail_may_do_nothing(desk: Client) -> None:
    page = desk.get("/admin/mails/")
    assert "frame-src 'self'" in page["Content-Security-Policy"] and " sandbox " in page.content.decode()
    frame = desk.get("/admin/mails/deleted/html/")
    policy = frame["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "sandbox" in policy and "script-src" not in policy
    assert frame["X-Frame-Options"] == "SAMEORIGIN" and "frame-ancestors 'self'" in policy


@pytest.mark.parametrize("path", ["", "deleted/", "deleted/html/"])
def test_only_staff_see_them(client: Client, alice: User, path: str) -> None:
    assert client.get(f"/admin/mails/{path}").status_code == 302
    client.force_login(alice)
    answer = client.get(f"/admin/mails/{path}", follow=True)
    assert b"mail-sides" not in answer.content and b"Your account is deleted" not in answer.content


def test_an_unknown_one_is_404(desk: Client) -> None:
    assert (
        desk.get("/admin/mails/nothing/").status_code
        == desk.get("/admin/mails/nothing/html/").status_code
        == 404
    )


def test_what_people_typed_cannot_become_html(alice: User) -> None:
    sent = mails.rendered("new_device", alice.email, {"device": "<script>alert(1)</script>", "ip": "::1"})
    assert "<script>" not in str(sent.alternatives[0][0]) and "<script>" in sent.body


def test_without_a_mail_server_nothing_is_sent(alice: User, settings: Any) -> None:
    settings.HAS_MAIL = False
    assert not mails.send("deleted", alice, {}) and mail.outbox == []
    settings.HAS_MAIL = True
    assert mails.send("deleted", alice, {})
    assert [sent.subject for sent in mail.outbox] == ["Your account is deleted"]


def test_each_kind_is_previewed(desk: Client) -> None:
    assert {kind.name for kind in mails.KINDS} - {"security"} <= {sample.slug for sample in SAMPLES}
