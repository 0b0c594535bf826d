"""A purchase in a real browser: our policy lets the way to the card through, and the page notices the money."""

from typing import Any

import pytest
from django.conf import LazySettings
from django.utils import timezone

from accounts import ledger
from accounts.models import TopUp, User
from tests import fake_stripe
from tests.fake_stripe import FakeStripe

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PASSWORD = "a-long-password-9"


def test_credits_are_bought_and_arrive_while_one_looks(
    page: Any, live_server: Any, settings: LazySettings
) -> None:
    settings.STRIPE_SECRET_KEY, settings.STRIPE_WEBHOOK_SECRET = fake_stripe.KEY, fake_stripe.SECRET
    User.objects.create_user("dora@example.org", PASSWORD)
    complaints: list[str] = []
    with FakeStripe(hook=f"{live_server.url}/hooks/stripe/") as stripe:
        settings.STRIPE_API_BASE = stripe.url
        page.goto(f"{live_server.url}/accounts/login/?next=/account/buy/")
        page.fill("input[name=login]", "dora@example.org")
        page.fill("input[name=password]", PASSWORD)
        page.click("main button[type=submit]")
        page.wait_for_url("**/account/buy/")
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.check("input[value='1000']")
        page.click("text=Go to payment")
        page.wait_for_url(f"{stripe.url}/pay/**")  # by itself: nobody pressed "Continue"
        late, stripe.hook = stripe.hook, ""
        page.click("#pay")
        page.wait_for_selector("text=1,428.57 credits are yours")  # by asking: no webhook has come
        assert page.inner_text("#balance").startswith("1,428.57")
        stripe.hook = late
        [session] = stripe.sessions
        assert stripe.tell(stripe.pay(session)) == 200
    assert TopUp.objects.get().is_paid
    assert complaints == []


@pytest.mark.parametrize("path", ["/account/", f"/account/statements/{timezone.now():%Y-%m}/"])
def test_a_word_as_long_as_the_page_leaves_the_amounts_in_sight(
    page: Any, live_server: Any, path: str
) -> None:
    dora = User.objects.create_user("dora@example.org", PASSWORD)
    ledger.grant(dora, 1_000_000, business_id="grant:1", memo="x" * 200, actor=None)
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(f"{live_server.url}/accounts/login/?next={path}")
    page.fill("input[name=login]", "dora@example.org")
    page.fill("input[name=password]", PASSWORD)
    page.click("main button[type=submit]")
    page.wait_for_url(f"**{path}")
    wide = (
        "[...document.querySelectorAll('.table-wrap')].filter(it => it.scrollWidth > it.clientWidth).length"
    )
    assert "x" * 200 in page.inner_text("main") and page.evaluate(wide) == 0
