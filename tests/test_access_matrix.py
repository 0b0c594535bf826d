"""Who may open what: every address of the site, asked for by everybody who might try.

The owner's things all say "zanzibar" somewhere: whoever else reads that word has read what is not his. And when
everybody else has pressed everything, the owner's rows are what they were.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from allauth.mfa.webauthn.internal import auth as webauthn
from allauth.usersessions.models import UserSession
from django.apps import apps
from django.db import models, transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, path
from django.urls.resolvers import RoutePattern
from django.utils import timezone

from accounts.models import ApiKey, TopUp, User
from playground import endpoints, net, outbox, reports, result_links, uploads
from playground.models import ShareLink
from playground.models.owned import OwnedQuerySet
from tests.calling import Api
from tests.making import PRO, give, job_for, load_catalogue, picture_for
from tests.pictures import photo

pytestmark = [pytest.mark.django_db, pytest.mark.once]

MARK = "zanzibar"

# --- The table ----------------------------------------------------------------------------------------
# public: for everybody, and the same for everybody.       mine: who is logged in sees what is his.
# own: one thing of one account; for others it is not there. staff: the operator's desk.
# key: the API; a key opens it and a cookie does not.      secret: whoever has been given the address.
# hook: for upstreams and Stripe, who prove who they are.   elsewhere: leads to another address, for everybody.
TABLE = {
    "public": """
        playground quote variant_choices pricing variants variant deleted healthz docs docs_errors
        runs api:openapi-json api:models api:model
        account_login account_signup account_inactive account_logout account_email_verification_sent
        account_confirm_email account_confirm_login_code account_reset_password account_reset_password_done
        account_reset_password_from_key account_reset_password_from_key_done mfa_authenticate mfa_login_webauthn
    """,
    "mine": """
        gallery gallery_pick share_links usage usage_export webhooks webhook_deliveries webhook_calls
        your_data export delete_account uploads docs_key
        account buy statements statement statement_csv statement_pdf caps cap keys key_make
        profile security sessions sessions_end_others notifications
        account_email account_reauthenticate account_change_password account_set_password
        mfa_reauthenticate mfa_activate_totp mfa_deactivate_totp mfa_view_recovery_codes
        mfa_generate_recovery_codes mfa_download_recovery_codes mfa_list_webauthn mfa_add_webauthn
        mfa_reauthenticate_webauthn
    """,
    "own": """
        run run_progress job_cancel job_retry job picture picture_download picture_keep picture_delete
        picture_undelete share_picture picture_image share_run webhook_resend webhook webhook_secret webhook_do
        upload_delete upload_image share_revoke top_up top_up_progress receipt
        key key_rotate key_revoke session_end mfa_remove_webauthn mfa_edit_webauthn
    """,
    "staff": "admin_mails admin_mail admin_mail_html admin:*",
    "key": """
        api:create_task api:record_info api:cancel api:list_tasks api:generations api:edits api:generate
        api:credit api:download_url api:stream api:from_base64 api:from_url
    """,
    "secret": "upload_signed upload_link result result_file result_download share share_social share_image share_report",
    "hook": "stripe_hook upstream_hook",
    "elsewhere": "settings/ accounts/2fa/ mfa_index accounts/sessions/ usersessions_list",  # names of pages that moved
    "refused": "api:variations",  # is not done here, for nobody
    "nothing": "api:api-root",  # only a name that the others are counted from
}
CLASSES = {name: kind for kind, names in TABLE.items() for name in names.split()}
# What staff of no permission at all may see of the desk: its door, and that there is nothing behind it for them.
DOOR = {
    "admin:index",
    "admin:login",
    "admin:logout",
    "admin:password_change",
    "admin:password_change_done",
    "admin:jsi18n",
    "admin_mails",
}


@dataclass(frozen=True)
class Address:
    """One URL pattern. `name` is its route where it has none."""

    name: str
    route: str

    @property
    def kind(self) -> str:
        return CLASSES.get(
            "admin:*" if self.route.startswith("admin/") and self.name.startswith("admin:") else self.name, ""
        )


def addresses() -> list[Address]:
    return list(_walk(get_resolver()))


def _walk(resolver: URLResolver, before: str = "", space: str = "") -> Iterator[Address]:
    for entry in resolver.url_patterns:
        is_route = isinstance(entry.pattern, RoutePattern)
        route = before + (str(entry.pattern) if is_route else _plain(str(entry.pattern)))
        if isinstance(entry, URLPattern):
            yield Address(space + (entry.name or "") if entry.name else space + route, route)
        else:
            yield from _walk(entry, route, f"{entry.namespace}:" if entry.namespace else space)


def _plain(regex: str) -> str:
    """`^usage/(?P<form>csv|json)/$` as a route."""
    return re.sub(r"\(\?P<(\w+)>[^)]*\)", r"<\1>", regex).strip("^$")


# --- What the owner has -------------------------------------------------------------------------------
@dataclass
class House:
    """The owner, and what stands for the owner's things in addresses; `special` where a name means another thing."""

    owner: User
    key: Api
    values: dict[str, Any] = field(default_factory=dict)
    special: dict[str, dict[str, Any]] = field(default_factory=dict)
    bodies: dict[str, Any] = field(default_factory=dict)

    def url(self, address: Address) -> str:
        values = self.values | self.special.get(address.name, {}) | self._of_desk(address)
        filled = re.sub(r"<(?:\w+:)?(\w+)>", lambda found: str(values[found[1]]), address.route)
        return f"/{filled}{'?taskId=' + str(self.values['job_id']) if 'record' in address.route else ''}"

    def _of_desk(self, address: Address) -> dict[str, Any]:
        """A row of the model that a page of the desk is about: the owner's, where it belongs to anybody."""
        found = re.match(r"admin/(\w+)/(\w+)/.*<(?:\w+:)?(\w+)>", address.route)
        if not found:
            return {}
        model = apps.get_model(found[1], found[2])
        row = rows_of(model, self.owner).first() or model._default_manager.first()
        return {found[3]: row.pk if row else 1}


def rows_of(model: type[models.Model], owner: User) -> models.QuerySet[Any]:
    """Those that are the owner's by a `user` of theirs, or by being the owner."""
    rows = model._default_manager.all()
    if model is User:
        return rows.filter(pk=owner.pk)
    return rows.filter(user=owner) if any(one.name == "user" for one in model._meta.fields) else rows.none()


@pytest.fixture
def house(db: None, settings: Any, monkeypatch: pytest.MonkeyPatch) -> House:
    settings.BASE_URL = "http://testserver"
    settings.API_RATE_LIMIT = settings.API_RATE_LIMIT_ACCOUNT = settings.API_RATE_LIMIT_ANONYMOUS = (10**6, 1)
    monkeypatch.setattr(net, "resolve", lambda host, port: ["93.184.215.14"])
    monkeypatch.setattr(webauthn, "get_credentials", lambda user: [])  # for hers is only a name
    owner = User.objects.create_user(f"{MARK}@example.org", "a-long-password")
    EmailAddress.objects.create(user=owner, email=owner.email, verified=True, primary=True)
    give(owner)
    load_catalogue()
    made = House(owner, Api(owner))
    ApiKey.objects.filter(user=owner).update(name=f"{MARK} key")
    _pictures(made)
    _things(made)
    return made


def _pictures(made: House) -> None:
    owner = made.owner
    kept = picture_for(owner, prompt=f"a {MARK} fox")
    picture_for(owner, pay="preview", prompt=f"a {MARK} owl")
    waiting, upload = job_for(owner, prompt=f"a {MARK} elk"), uploads.take(owner, photo())
    task = made.key.create(f"a {MARK} hen").json()["data"]["taskId"]
    link = ShareLink.objects.create(user=owner, picture=kept)
    ShareLink.objects.create(user=owner, run=waiting.run, revoked=timezone.now())
    reports.submit(link, reason="illegal", note=f"{MARK} said so", who="somebody")
    result, download = result_links.url(kept), result_links.download_url(kept)
    made.values |= {"run_id": waiting.run_id, "job_id": task, "picture_id": kept.pk, "upload_id": upload.pk}
    made.values |= {"token": link.token, "size": "thumb"}
    made.special |= {
        "upload_image": {"size": "thumb"},
        "upload_signed": {"signed": uploads.signed_url(upload).split("/")[4]},
        "upload_link": {"signed": uploads.link(upload, "").split("/")[2]},
        "result": {"signed": result.split("/")[2]},
        "result_file": {"signed": result.split("/")[2], "name": result.split("/")[3]},
        "result_download": {"signed": download.split("/")[2], "name": download.split("/")[3]},
    }
    made.bodies |= {"api:cancel": {"taskId": task}, "api:download_url": {"url": f"http://testserver{result}"}}


def _things(made: House) -> None:
    owner = made.owner
    endpoint = endpoints.add(owner, f"https://{MARK}.example.com/hook", f"{MARK} shop")
    delivery = outbox.send_test(endpoint)
    paid = {"state": "paid", "paid": timezone.now(), "payment_id": f"pi_{MARK}", "session_id": f"cs_{MARK}"}
    top_up = TopUp.objects.create(user=owner, micros=1_000_000, cents=100, **paid)
    session = UserSession.objects.create(
        user=owner, ip="127.0.0.1", user_agent=f"{MARK} browser", session_key="elsewhere"
    )
    passkey = Authenticator.objects.create(
        user=owner, type=Authenticator.Type.WEBAUTHN, data={"name": f"{MARK} phone", "credential": {}}
    )
    TOTP.activate(owner, generate_totp_secret())
    RecoveryCodes.activate(owner)
    assert delivery and made.key.key
    made.values |= {
        "endpoint_id": endpoint.pk,
        "delivery_id": delivery.pk,
        "top_up_id": top_up.pk,
        "key_id": made.key.key.pk,
        "session_id": session.pk,
        "pk": passkey.pk,
        **{"slug": PRO, "model_id": PRO, "form": "csv", "name": f"{timezone.now():%Y-%m}", "window": "day"},
        **{"deed": "test", "key": "MQ", "uidb36": "1", "app_label": "accounts", "url": "nothing"},
        **{"price_id": 1, "user_id": owner.pk, "content_type_id": 1, "object_id": 1, "form_url": ""},
    }
    made.special["admin_mail"] = made.special["admin_mail_html"] = {"slug": "welcome"}


def state_of(owner: User) -> dict[str, list[Any]]:
    """Every row of the owner's, but for when somebody was last seen."""
    seen = {"last_used", "last_login", "last_seen_at", "checked"}
    tables = {}
    for model in apps.get_models():
        names = [one.attname for one in model._meta.concrete_fields if one.name not in seen]
        tables[model._meta.label] = sorted(map(repr, rows_of(model, owner).values_list(*names)))
    return tables


# --- Who asks -----------------------------------------------------------------------------------------
def logged_in(user: User) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


def with_key(key: Api) -> Client:
    return Client(raise_request_exception=False, headers=key.headers({}))


def askers(house: House, bob: User) -> dict[str, Callable[[], Client]]:
    """How each of them comes, again and again: some of what they press logs them out. `staff` may do nothing at all."""
    staff = User.objects.create_user("staff@example.org", "a-long-password", is_staff=True)
    strange = Api(bob)
    return {
        "anonymous": lambda: Client(raise_request_exception=False),
        "owner": lambda: logged_in(house.owner),
        "owner's key": lambda: with_key(house.key),
        "stranger": lambda: logged_in(bob),
        "stranger's key": lambda: with_key(strange),
        "staff": lambda: logged_in(staff),
    }


def ask(client: Client, method: str, url: str, body: Any = None) -> Any:
    if method == "POST" and url.startswith(("/api/", "/v1/")):
        return client.post(url, body or {}, content_type="application/json")
    if method == "POST":
        return client.post(url, {})
    return client.generic(method, url)


def text_of(response: Any) -> str:
    body = b"".join(response.streaming_content) if response.streaming else response.content
    return str(body.decode(errors="replace") + response.get("Location", ""))


def is_sent_to_log_in(response: Any) -> bool:
    return response.status_code == 302 and response["Location"].startswith(
        ("/accounts/login/", "/accounts/reauthenticate/")
    )


# --- The rules ----------------------------------------------------------------------------------------
HAS_KEY, HAS_COOKIE = {"owner's key", "stranger's key"}, {"stranger", "staff"}


def leaks(asker: str, address: Address, response: Any) -> bool:
    """Whether somebody got what is not for them. `owner` is not asked here."""
    status, kind = response.status_code, address.kind
    if status >= 500:
        return True
    if kind in ("public", "nothing"):
        return MARK in text_of(response)
    if kind == "elsewhere":
        return status != 302
    if kind == "secret":
        return MARK in text_of(response) or status not in (200, 302, 405, 422)
    if kind in ("hook", "refused"):
        return status < 400
    if kind == "key":
        return _leaks_api(asker, response)
    if status in (401, 405) or is_sent_to_log_in(response) or _is_told_to_reload(response):
        return False
    if kind == "mine":
        return MARK in text_of(response) or asker not in HAS_COOKIE
    if kind == "staff":
        is_at_door = asker == "staff" and address.name in DOOR
        return MARK in text_of(response) or not (is_at_door or status in (403, 404) or _is_slash(response))
    return status != 404  # own


def _is_told_to_reload(response: Any) -> bool:
    """What polls for somebody who has logged out meanwhile."""
    return response.get("HX-Refresh") == "true" and text_of(response) == ""


def _leaks_api(asker: str, response: Any) -> bool:
    if asker == "owner's key":
        return False
    if asker == "stranger's key":
        return MARK in text_of(response)
    return response.status_code not in (401, 405)


def _is_slash(response: Any) -> bool:
    """The desk's redirect to the same address with a slash, or to the page of a row, which is refused in its turn."""
    return response.status_code in (301, 302) and str(response["Location"]).startswith("/admin/")


# --- The matrix ---------------------------------------------------------------------------------------
def test_every_address_is_classified_and_nothing_else() -> None:
    found = addresses()
    assert [one for one in found if not one.kind] == []
    assert set(CLASSES) - {one.name for one in found} == {"admin:*"}


OTHERS = ["anonymous", "stranger", "stranger's key", "owner's key", "staff"]
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def leaked_to(
    asker: str, house: House, bob: User, tried: Iterable[Address], methods: tuple[str, ...] = METHODS
) -> list[Any]:
    come = askers(house, bob)[asker]
    leaked, client = [], come()
    for address in tried:
        if asker == "owner's key" and address.kind == "key":
            continue
        for method in methods:
            response = ask(client, method, house.url(address), house.bodies.get(address.name))
            client = come() if response.cookies else client
            if leaks(asker, address, response):
                leaked.append((method, address.name, response.status_code, response.get("Location", "")))
    return leaked


@pytest.mark.parametrize("asker", OTHERS)
def test_nobody_else_reads_or_changes_anything(asker: str, house: House, bob: User) -> None:
    before = state_of(house.owner)
    leaked = leaked_to(asker, house, bob, addresses())
    assert not leaked, "\n".join(map(str, leaked))
    assert state_of(house.owner) == before


@pytest.mark.parametrize(
    ("asker", "names"),
    [
        ("stranger", {"job", "picture", "picture_image", "run"}),
        ("stranger's key", {"api:list_tasks"}),
    ],
)
def test_a_gate_that_stands_open_is_seen(
    asker: str, names: set[str], house: House, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OwnedQuerySet, "visible_to", lambda rows, user: rows.all())
    tried = [one for one in addresses() if one.kind in ("own", "key")]
    assert names <= {name for _, name, *_ in leaked_to(asker, house, bob, tried, ("GET",))}


def test_a_new_address_has_no_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_resolver(), "url_patterns", [path("brand/new/", Client, name="brand_new")])
    assert [one.kind for one in addresses()] == [""]


def test_the_owners_cookie_does_not_open_the_api(house: House) -> None:
    client, before = logged_in(house.owner), state_of(house.owner)
    for address in (one for one in addresses() if one.kind == "key"):
        for method in METHODS:
            response = ask(client, method, house.url(address), house.bodies.get(address.name))
            assert response.status_code in (401, 405), (method, address)
    assert state_of(house.owner) == before


def test_the_owner_can_open_all_of_it(house: House, bob: User) -> None:
    """Otherwise the others would be refused for no better reason than that nothing is there."""
    clients, shut, read = askers(house, bob), [], 0
    opens = {"own": "owner", "mine": "owner", "key": "owner's key"}
    for method in ("GET", "POST"):  # the second of which removes files
        for address in (one for one in addresses() if one.kind in opens):
            asker = opens[address.kind]
            with transaction.atomic():
                response = ask(clients[asker](), method, house.url(address), house.bodies.get(address.name))
                transaction.set_rollback(True)
            read += MARK in text_of(response)
            if response.status_code in (401, 403, 404) or response.status_code >= 500:
                shut.append((method, address.name, response.status_code))
    assert not shut, "\n".join(map(str, shut))
    assert read > 20


@pytest.mark.parametrize("name", sorted(name for name, kind in CLASSES.items() if kind == "secret"))
def test_an_address_that_was_given_away_cannot_be_guessed_from_another(name: str, house: House) -> None:
    [address] = [one for one in addresses() if one.name == name]
    good = house.url(address)
    assert Client().get(good).status_code == 200
    place = good.index("/", 1) + 3
    bad = good[:place] + ("a" if good[place] != "a" else "b") + good[place + 1 :]
    assert Client().get(bad).status_code == 404
    ShareLink.objects.update(revoked=timezone.now())
    User.objects.filter(pk=house.owner.pk).update(is_active=False)
    assert Client().get(good).status_code == 404
