"""The operator's front page, as a browser draws it."""

from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from tests.making import give, picture_for

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

DRAWN = "cells => cells.map(cell => (({backgroundColor, borderBottom}) => backgroundColor + borderBottom)(getComputedStyle(cell)))"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_row_of_sums_looks_the_same_from_one_end_to_the_other(
    page: Any, live_server: Any, alice: User, desk: Client, scheme: str
) -> None:
    give(alice)
    picture_for(alice)
    session = desk.cookies["sessionid"].value
    page.context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{live_server.url}/admin/")
    cells = page.locator("tfoot tr").first.locator("th, td")
    assert cells.count() == 8 and len(set(cells.evaluate_all(DRAWN))) == 1
