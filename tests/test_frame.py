"""What frames every page: who is logged in, errors in our own clothes, and mails that say who sends them."""

from html import unescape
from typing import Any

import pytest
from django.conf import LazySettings
from django.core import mail
from django.template.loader import render_to_string
from django.test import Client

from accounts.models import User
from tests.making import give

pytestmark = pytest.mark.django_db


def page(response: Any) -> str:
    return unescape(response.content.decode())


def test_a_visitor_is_offered_to_log_in_and_comes_back_here(client: Client) -> None:
    html = page(client.get("/pricing/?q=pro"))
    assert "/accounts/login/?next=%2Fpricing%2F%3Fq%3Dpro" in html and 'id="balance"' not in html
    assert "/accounts/signup/?next=%2Fpricing%2F%3Fq%3Dpro" in page(
        client.get("/accounts/login/?next=/pricing/%3Fq%3Dpro")
    )


def test_alice_sees_her_balance_and_her_menu_on_every_page(client: Client, alice: User) -> None:
    give(alice)
    client.force_login(alice)
    html = page(client.get("/pricing/"))
    assert "1,428.57 <span>credits</span>" in html and "alice@example.org" in html and "Log out" in html


def test_staff_find_the_admin_and_others_do_not(client: Client, alice: User, charlie: User) -> None:
    for user, sees in ((alice, False), (charlie, True)):
        client.force_login(user)
        assert ('href="/admin/"' in page(client.get("/"))) is sees


def test_the_sandbox_is_named_until_an_upstream_is_set_up(client: Client, settings: LazySettings) -> None:
    assert "No image service is set up here" in page(client.get("/"))
    settings.AIGENERATE_API_KEY = "key"
    assert "No image service is set up here" not in page(client.get("/"))


def test_an_unknown_address_answers_404_in_our_clothes(client: Client) -> None:
    response = client.get("/nothing-here/")
    assert response.status_code == 404 and "There is nothing here" in page(response)


@pytest.mark.parametrize("path", ["nothing/", "login/", "signup/"])
@pytest.mark.parametrize("query", ["next=http://[", "next=//evil.example/", "next=%00", "a&" * 1500])
def test_the_doors_stand_strange_queries(client: Client, path: str, query: str) -> None:
    response = client.get(f"/accounts/{path}?{query}")
    assert response.status_code in (200, 400, 404)


def test_a_form_without_its_token_is_explained() -> None:
    response = Client(enforce_csrf_checks=True).post("/runs/", {"prompt": "a fox"})
    assert response.status_code == 403 and "Please send that again" in page(response)


def test_the_error_page_needs_nothing_that_may_be_broken(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert "Something broke on our side" in render_to_string("500.html")


def test_asking_too_often_is_answered_in_our_clothes(client: Client) -> None:
    answers = [client.post("/accounts/password/reset/", {"email": "x@example.org"}) for _ in range(30)]
    assert answers[-1].status_code == 429 and "That was too often" in page(answers[-1])


def test_sign_up_asks_for_the_password_once(client: Client) -> None:
    html = page(client.get("/accounts/signup/"))
    assert html.count('type="password"') == 1 and "data-show-password" in html
    assert "1,428.57 credits ($10.00) to start with" in html


def test_a_refused_sign_up_says_why_beside_the_field(client: Client) -> None:
    html = page(client.post("/accounts/signup/", {"email": "eve@example.org", "password1": "12345678"}))
    assert "This password is too common." in html and 'value="eve@example.org"' in html
    assert not User.objects.exists()


def test_without_a_mail_server_a_lost_password_names_who_can_help(
    client: Client, settings: LazySettings
) -> None:
    assert "manage.py account" in page(client.get("/accounts/password/reset/"))
    settings.HAS_MAIL = True
    assert "Send the link" in page(client.get("/accounts/password/reset/"))


def test_the_mail_with_the_link_says_who_sends_it(client: Client, alice: User) -> None:
    client.post("/accounts/password/reset/", {"email": alice.email})
    [sent] = mail.outbox
    assert sent.subject == "Choose a new password" and "/accounts/password/reset/key/" in sent.body
    assert "Flux Playground" in sent.body


@pytest.mark.parametrize("path", ["password/change/", "email/", "logout/", "reauthenticate/"])
def test_the_other_account_pages_wear_our_clothes(client: Client, alice: User, path: str) -> None:
    client.force_login(alice)
    response = client.get(f"/accounts/{path}")
    assert response.status_code == 200 and 'class="site-head"' in page(response)
