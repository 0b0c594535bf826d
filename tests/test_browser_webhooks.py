"""The list of deliveries in a real browser, while messages are on their way."""

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import User
from playground.models import Delivery
from tests.receiving import endpoint_of

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_what_alice_has_opened_stays_open_while_the_list_is_drawn_anew(
    page: Any, live_server: Any, alice: User
) -> None:
    endpoint = endpoint_of(alice, "https://hooks.example.com/flux")
    made = {"user": alice, "endpoint": endpoint, "url": endpoint.url, "event": "x"}
    waiting, ended = Delivery.objects.create(**made), Delivery.objects.create(**made)
    Delivery.objects.filter(pk=ended.pk).update(state="failed", ended=timezone.now())
    client = Client()
    client.force_login(alice)
    cookie = {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}
    page.context.add_cookies([cookie])
    page.goto(f"{live_server.url}/settings/webhooks/deliveries/")
    page.locator(f"#line-{ended.pk}").press("Enter")
    Delivery.objects.filter(pk=waiting.pk).update(state="delivered", ended=timezone.now())
    page.locator(f"#line-{waiting.pk} .tag-good").wait_for()  # it has been drawn anew
    assert page.locator("#deliveries details[open]").get_attribute("id") == f"sent-{ended.pk}"
    assert page.evaluate("document.activeElement.id") == f"line-{ended.pk}"
