"""What a request carries, from the web server to wherever it is written down."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.test import Client

from accounts.models import User
from playground.wsgi import application


@contextmanager
def _connection_kept() -> Iterator[None]:
    """The end of a request closes its connection, which here is that of the test."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("STRIPE_SECRET_KEY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "a-secret-of-the-process")
    return "a-secret-of-the-process"


def ask(path: str, **more: Any) -> tuple[str, dict[str, str]]:
    """As the web server asks: with its own environment in it. Status and headers."""
    told: list[Any] = []
    environ = {
        **os.environ,
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
        **more,
    }
    with _connection_kept():
        answer = application(environ, lambda status, headers: told.extend([status, dict(headers)]))
        list(answer)
        answer.close()
    return told[0], told[1]


def test_a_request_has_its_own_words_and_none_of_the_process(db: None, secret: str) -> None:
    seen: list[dict[str, Any]] = []

    def look(environ: dict[str, Any], **_: Any) -> None:
        seen.append(environ)

    request_started.connect(look)
    try:
        status, _ = ask("/healthz", HTTP_X_WORD="kept", HTTP_PROXY="of the request")
        ask("/healthz")
    finally:
        request_started.disconnect(look)
    assert status.startswith("200")
    assert (seen[0]["HTTP_X_WORD"], seen[0]["HTTP_PROXY"]) == ("kept", "of the request")
    assert not any(secret in str(said) for environ in seen for said in environ.values())


def test_no_secret_gets_into_the_session_of_who_has_to_give_the_password(alice: User, secret: str) -> None:
    alice.set_password("a-long-password-9")
    alice.save()
    client = Client()
    client.force_login(alice)
    token = client.get("/settings/data/").cookies["csrftoken"].value
    cookies = f"sessionid={client.session.session_key}; csrftoken={token}"
    where = {"REQUEST_METHOD": "POST", "HTTP_COOKIE": cookies, "HTTP_X_CSRFTOKEN": token}
    _, headers = ask("/settings/data/delete/", **where)
    assert headers["Location"].startswith("/accounts/reauthenticate/")
    kept = str(Session.objects.get(pk=client.session.session_key).get_decoded())
    assert "/settings/data/delete/" in kept
    assert secret not in kept
