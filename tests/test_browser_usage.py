"""The usage page on a phone, with the names that people give to keys."""

from typing import Any

import pytest
from django.test import Client

from accounts import keys
from accounts.models import User
from playground import orders
from tests.making import give, picture_for

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_a_long_name_of_a_key_reads_as_words_on_a_phone(page: Any, live_server: Any, alice: User) -> None:
    give(alice)
    key, _ = keys.make(alice, "the nightly batch that fills the shop")
    picture_for(alice, call=orders.Call(key=key, asked={}))
    browser = Client()
    browser.force_login(alice)
    page.context.add_cookies(
        [{"name": "sessionid", "value": browser.cookies["sessionid"].value, "url": live_server.url}]
    )
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(f"{live_server.url}/usage/")
    box = page.locator(".usage-list td.by").bounding_box()
    assert box["width"] >= 100 and box["height"] < 150, box
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
