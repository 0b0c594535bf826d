"""A Stripe over real HTTP that can be paid at: checkout sessions, the page where a card pays, signed webhooks.

In a test:   with FakeStripe() as stripe:  settings.STRIPE_API_BASE = stripe.url
By hand:     python -m tests.fake_stripe --port 8111 --hook http://127.0.0.1:8110/hooks/stripe/
             STRIPE_API_BASE=http://127.0.0.1:8111 STRIPE_SECRET_KEY=sk_test_fake STRIPE_WEBHOOK_SECRET=whsec_fake manage.py up

Events are made here too, as Stripe makes them, for tests that deliver them themselves, in any order.
"""

import argparse
import hashlib
import hmac
import html
import itertools
import json
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, parse_qsl, urlsplit

KEY = "sk_test_fake"
SECRET = "whsec_fake"
_count = itertools.count(1)


# --- Events -------------------------------------------------------------------------------------------
def signed(event: dict[str, Any], secret: str = SECRET, at: float | None = None) -> tuple[bytes, str]:
    """The body of a webhook, and its Stripe-Signature."""
    body = json.dumps(event).encode()
    return body, signature_of(body, secret, at)


def signature_of(body: bytes, secret: str = SECRET, at: float | None = None) -> str:
    """Computed here, not by the library that checks it."""
    stamp = int(at or time.time())
    mac = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={mac}"


def event(kind: str, thing: dict[str, Any], *, livemode: bool = False) -> dict[str, Any]:
    return {
        "id": f"evt_{next(_count):016d}",
        "object": "event",
        "api_version": "2025-10-29.clover",
        "created": int(time.time()),
        "type": kind,
        "livemode": livemode,
        "data": {"object": {"livemode": livemode, **thing}},
    }


def refunded(payment: str, cents: int, back: int, currency: str = "usd") -> dict[str, Any]:
    """`back`: in all, as Stripe counts."""
    charge = {
        "id": f"ch_{payment}",
        "object": "charge",
        "amount": cents,
        "amount_refunded": back,
        "currency": currency,
        "payment_intent": payment,
        "billing_details": {"name": "Alice Doe", "email": "alice@example.org"},
        "payment_method_details": {"card": {"last4": "4242"}},
    }
    return event("charge.refunded", charge)


def disputed(payment: str, cents: int, what: str, status: str, dispute: str = "dp_1") -> dict[str, Any]:
    """`what`: created, funds_withdrawn, funds_reinstated or closed."""
    thing = {
        "id": dispute,
        "object": "dispute",
        "amount": cents,
        "currency": "usd",
        "charge": f"ch_{payment}",
        "payment_intent": payment,
        "status": status,
        "reason": "fraudulent",
    }
    return event(f"charge.dispute.{what}", thing)


# --- The server ---------------------------------------------------------------------------------------
class FakeStripe:
    """`sessions` and `asked` are what it knows and what it was asked; `down` makes every answer a 503."""

    def __init__(self, port: int = 0, hook: str = "") -> None:
        self.sessions: dict[str, dict[str, Any]] = {}
        self.by_key: dict[str, str] = {}
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.hook = hook
        self.down = False
        self.server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def create(self, asked: dict[str, Any], once: str) -> dict[str, Any]:
        if once in self.by_key:
            return self.sessions[self.by_key[once]]
        number = next(_count)
        pk = f"cs_test_{number:08d}"
        cents = int(asked["line_items[0][price_data][unit_amount]"]) * int(asked["line_items[0][quantity]"])
        self.by_key[once] = pk
        self.sessions[pk] = {
            "id": pk,
            "object": "checkout.session",
            "livemode": False,
            "mode": asked["mode"],
            "amount_total": cents,
            "currency": asked["line_items[0][price_data][currency]"],
            "status": "open",
            "payment_status": "unpaid",
            "payment_intent": None,
            "metadata": {"top_up": asked["metadata[top_up]"]},
            "client_reference_id": asked["client_reference_id"],
            "customer_details": {"email": asked["customer_email"], "name": "Alice Doe"},
            "success_url": asked["success_url"],
            "cancel_url": asked["cancel_url"],
            "url": f"{self.url}/pay/{pk}",
        }
        return self.sessions[pk]

    def pay(self, pk: str, payment_status: str = "paid") -> dict[str, Any]:
        """The card pays (or, `unpaid`, a bank that takes days says that it will); the event that comes of it."""
        session = self.sessions[pk]
        session |= {"status": "complete", "payment_status": payment_status, "payment_intent": f"pi_{pk[8:]}"}
        return event("checkout.session.completed", dict(session))

    def tell(self, said: dict[str, Any]) -> int:
        """Sends a webhook, as Stripe does; returns the status of the answer."""
        body, signature = signed(said)
        headers = {"Stripe-Signature": signature, "Content-Type": "application/json"}
        request = urllib.request.Request(self.hook, body, headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)


def _handler(stripe: FakeStripe) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            if url.path.startswith("/pay/"):
                return self.page(url.path.removeprefix("/pay/"), parse_qs(url.query))
            if url.path == "/favicon.ico":
                return self.send(b"", "image/x-icon")
            if self.refuses("GET", {}):
                return None
            session = stripe.sessions.get(url.path.rpartition("/")[2])
            if session is None:
                return self.json(
                    {"error": {"type": "invalid_request_error", "message": "No such session"}}, 404
                )
            payment = session["payment_intent"] and {"id": session["payment_intent"], "status": "processing"}
            return self.json({**session, "payment_intent": payment})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            asked = dict(parse_qsl(body))
            if self.refuses("POST", asked):
                return
            pk, _, what = self.path.removeprefix("/v1/checkout/sessions").strip("/").partition("/")
            if what != "expire":
                return self.json(stripe.create(asked, self.headers["Idempotency-Key"]))
            if stripe.sessions[pk]["status"] != "open":
                said = {"type": "invalid_request_error", "message": "Only Checkout Sessions that are open"}
                return self.json({"error": said}, 400)
            stripe.sessions[pk]["status"] = "expired"
            self.json(stripe.sessions[pk])

        def refuses(self, method: str, asked: dict[str, Any]) -> bool:
            stripe.asked.append((method, self.path, asked))
            if stripe.down:
                self.json({"error": {"type": "api_error", "message": "down"}}, 503)
            elif self.headers["Authorization"] != f"Bearer {KEY}":
                message = f"Invalid API Key provided: {self.headers['Authorization']}"
                self.json({"error": {"type": "invalid_request_error", "message": message}}, 401)
            else:
                return False
            return True

        def page(self, pk: str, query: dict[str, list[str]]) -> None:
            """Stands for Stripe's page: pays at the press of a link, and goes back."""
            session = stripe.sessions[pk]
            if session["status"] == "expired":
                return self.send(b"<title>Fake Stripe</title><h1>This link has expired</h1>", "text/html")
            if "pay" in query:
                said = stripe.pay(pk)
                if stripe.hook:
                    stripe.tell(said)
                return self.go(session["success_url"])
            links = f'<a id="pay" href="?pay=1">Pay {session["amount_total"]} cents</a> '
            links += f'<a id="cancel" href="{html.escape(session["cancel_url"])}">Back</a>'
            return self.send(f"<title>Fake Stripe</title><h1>Fake Stripe</h1>{links}".encode(), "text/html")

        def go(self, url: str) -> None:
            self.send_response(303)
            self.send_header("Location", url)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def json(self, value: Any, status: int = 200) -> None:
            self.send(json.dumps(value).encode(), "application/json", status)

        def send(self, body: bytes, kind: str, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--hook", default="")
    options = parser.parse_args()
    with FakeStripe(options.port, options.hook) as running:
        print(running.url, flush=True)
        running.thread.join()
