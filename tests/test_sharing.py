import re
import uuid
from html import unescape
from io import BytesIO
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from PIL import Image

from accounts.models import User
from playground.models import Picture, ShareLink
from playground.views import share as share_views
from tests.making import give, picture_for, run_for


def logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def hers(alice: User) -> Picture:
    give(alice)
    return picture_for(alice)


def share(user: User, thing: Any, **fields: str) -> ShareLink:
    response = logged_in(user).post(f"{thing.get_absolute_url()}share/", fields)
    assert (response.status_code, response["Location"]) == (303, thing.get_absolute_url())
    return ShareLink.objects.live().latest("pk")


def stranger_sees(path: str) -> str:
    response = Client().get(path)
    assert response.status_code == 200
    return unescape(response.content.decode())


def status(path: str) -> int:
    return Client().get(path).status_code


# --- What is public, and until when -------------------------------------------------------------------
def test_nothing_is_public_before_there_is_a_link(hers: Picture) -> None:
    assert status(f"/s/{hers.pk}/") == 404
    assert not ShareLink.objects.exists()


def test_a_stranger_sees_the_picture_and_no_prompt_unless_alice_chose_it(alice: User, hers: Picture) -> None:
    link = share(alice, hers)
    page = stranger_sees(f"/s/{link.token}/")
    assert f'src="/s/{link.token}/{hers.pk}/original/"' in page
    assert "FLUX.2 pro 1K" in page
    assert "fox" not in page
    share(alice, hers, shows_prompt="on")
    assert "a fox in the snow" in stranger_sees(f"/s/{link.token}/")


def test_the_name_of_the_file_tells_the_prompt_only_where_alice_chose_it(alice: User, hers: Picture) -> None:
    link = share(alice, hers)
    path = f"/s/{link.token}/{hers.pk}/original/"
    assert "fox" not in Client().get(path)["Content-Disposition"]
    share(alice, hers, shows_prompt="on")
    assert "a-fox-in-the-snow" in Client().get(path)["Content-Disposition"]


@pytest.mark.parametrize("token", ["x", "%00", "%FF", "%F0%9F%A6%8A", "x" * 5000])
def test_a_made_up_token_is_nothing(db: None, token: str) -> None:
    assert [status(f"/s/{token}/{rest}") for rest in ("", "social.jpg")] == [404, 404]


def test_the_page_betrays_neither_cost_nor_person_nor_job(alice: User, hers: Picture) -> None:
    link = share(alice, hers, shows_prompt="on")
    page = stranger_sees(f"/s/{link.token}/")
    secrets = [
        "alice",
        "example.org",
        "5.00",
        "0.035",
        "35000",
        str(hers.job_id),
        str(hers.job.run_id),
        hers.job.callback_token,
        hers.sha256,
        f"up-{hers.job_id}",
        f'/{alice.pk}"',
    ]
    assert [secret for secret in secrets if secret in page] == []


def test_search_engines_and_referrers_are_kept_out(alice: User, hers: Picture) -> None:
    link = share(alice, hers)
    for path in ("", f"{hers.pk}/thumb/", "social.jpg"):
        response = Client().get(f"/s/{link.token}/{path}")
        assert response["X-Robots-Tag"] == "noindex, nofollow"
        assert response["Referrer-Policy"] == "same-origin"
    assert '<meta name="robots" content="noindex, nofollow">' in stranger_sees(f"/s/{link.token}/")


def test_nothing_of_it_stays_in_a_cache(alice: User, hers: Picture) -> None:
    link = share(alice, hers)
    assert Client().get(f"/s/{link.token}/")["Cache-Control"] == "private, no-store"
    assert Client().get(f"/s/{link.token}/social.jpg")["Cache-Control"] == "private, no-store"
    for size in ("original", "thumb"):
        image = Client().get(f"/s/{link.token}/{hers.pk}/{size}/")
        assert image["Cache-Control"] == "private, no-cache"


def test_revoking_kills_page_pictures_and_social_picture_on_the_next_request(
    alice: User, hers: Picture
) -> None:
    link = share(alice, hers)
    paths = [f"/s/{link.token}/{rest}" for rest in ("", f"{hers.pk}/original/", "social.jpg")]
    tag = Client().get(paths[1])["ETag"]
    assert [status(path) for path in paths] == [200, 200, 200]
    response = logged_in(alice).post(f"/s/{link.token}/revoke/")
    assert (response.status_code, response["Location"]) == (303, "/account/links/")
    assert [status(path) for path in paths] == [404, 404, 404]
    assert Client().get(paths[1], headers={"If-None-Match": tag}).status_code == 404


def test_a_new_link_after_a_revoked_one_has_a_new_address(alice: User, hers: Picture) -> None:
    first = share(alice, hers)
    logged_in(alice).post(f"/s/{first.token}/revoke/")
    second = share(alice, hers)
    assert first.token != second.token
    assert (status(f"/s/{first.token}/"), status(f"/s/{second.token}/")) == (404, 200)


def test_clicking_twice_makes_one_link(alice: User, hers: Picture) -> None:
    assert share(alice, hers).token == share(alice, hers).token
    assert ShareLink.objects.count() == 1


def test_a_deleted_picture_is_gone_from_every_link(alice: User, hers: Picture) -> None:
    of_picture, of_run = share(alice, hers), share(alice, hers.job.run)
    Picture.objects.update(deleted=timezone.now())
    assert status(f"/s/{of_picture.token}/") == 404
    assert str(hers.pk) not in stranger_sees(f"/s/{of_run.token}/")
    assert status(f"/s/{of_run.token}/{hers.pk}/thumb/") == 404
    assert status(f"/s/{of_run.token}/social.jpg") == 404


def test_a_link_shows_its_own_pictures_and_no_others(alice: User, bob: User, hers: Picture) -> None:
    give(bob)
    other, link = picture_for(alice), share(alice, hers)
    assert status(f"/s/{link.token}/{other.pk}/thumb/") == 404
    assert status(f"/s/{link.token}/{picture_for(bob).pk}/thumb/") == 404


def test_a_locked_preview_is_shared_as_a_preview_only(alice: User) -> None:
    preview = picture_for(alice, pay="preview")
    link = share(alice, preview)
    assert f'src="/s/{link.token}/{preview.pk}/preview/"' in stranger_sees(f"/s/{link.token}/")
    assert status(f"/s/{link.token}/{preview.pk}/preview/") == 200
    assert status(f"/s/{link.token}/{preview.pk}/original/") == 404


def test_an_account_that_is_switched_off_shares_nothing(alice: User, hers: Picture) -> None:
    link = share(alice, hers)
    User.objects.update(is_active=False)
    assert status(f"/s/{link.token}/") == 404


# --- Runs ---------------------------------------------------------------------------------------------
def test_a_whole_run_is_shared_with_the_pictures_it_has(alice: User, hers: Picture) -> None:
    link = share(alice, hers.job.run, shows_prompt="on")
    Picture.objects.update(user=alice)
    page = stranger_sees(f"/s/{link.token}/")
    assert f"/s/{link.token}/{hers.pk}/" in page
    assert "a fox in the snow" in page


def test_a_run_without_pictures_yet_says_so(alice: User) -> None:
    give(alice)
    link = share(alice, run_for(alice))
    assert "There is no picture here yet" in stranger_sees(f"/s/{link.token}/")


def test_bob_can_neither_share_nor_revoke_what_is_alices(alice: User, bob: User, hers: Picture) -> None:
    link = share(alice, hers)
    client = logged_in(bob)
    assert client.post(f"/s/{link.token}/revoke/").status_code == 404
    assert client.post(f"/runs/{hers.job.run_id}/share/").status_code == 404
    assert status(f"/s/{link.token}/") == 200


# --- Messengers ---------------------------------------------------------------------------------------
def test_messengers_find_a_picture_at_an_absolute_address(alice: User, hers: Picture, settings: Any) -> None:
    settings.BASE_URL = "https://flux.example.com"
    link = share(alice, hers)
    page = stranger_sees(f"/s/{link.token}/")
    at = f"https://flux.example.com/s/{link.token}/"
    assert f'<meta property="og:image" content="{at}social.jpg">' in page
    assert f'<meta property="og:url" content="{at}">' in page
    image = Image.open(BytesIO(Client().get(f"/s/{link.token}/social.jpg").content))
    assert (image.size, image.format) == ((1200, 630), "JPEG")


def test_the_social_picture_is_drawn_once(
    alice: User, hers: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    draw = share_views._draw_social
    monkeypatch.setattr(share_views, "_draw_social", lambda pictures: drawn.append(1) or draw(pictures))
    link = share(alice, hers)
    for _ in range(3):
        stranger_gets = Client().get(f"/s/{link.token}/social.jpg")
        assert stranger_gets.status_code == 200
    assert len(drawn) == 1


# --- The owner's desk ---------------------------------------------------------------------------------
def test_the_picture_page_shows_the_link_with_copy_and_revoke(alice: User, hers: Picture) -> None:
    client = logged_in(alice)
    assert "Create link" in client.get(hers.get_absolute_url()).content.decode()
    link = share(alice, hers)
    page = client.get(hers.get_absolute_url()).content.decode()
    assert f'value="http://testserver/s/{link.token}/"' in page
    assert f'action="/s/{link.token}/revoke/"' in page


def test_taken_down_stays_down(alice: User, hers: Picture) -> None:
    link = share(alice, hers)
    ShareLink.objects.update(taken_down=timezone.now(), takedown_reason="Reported")
    client = logged_in(alice)
    assert status(f"/s/{link.token}/") == 404
    client.post(f"/s/{link.token}/revoke/")
    client.post(f"{hers.get_absolute_url()}share/")
    assert not ShareLink.objects.live().exists()
    assert "Reported" in client.get(hers.get_absolute_url()).content.decode()


def test_all_links_are_listed_page_by_page(
    alice: User, bob: User, hers: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(share_views, "LINKS_A_PAGE", 2)
    client = logged_in(alice)
    links = [share(alice, hers)]
    for _ in range(2):
        client.post(f"/s/{links[-1].token}/revoke/")
        links.append(share(alice, hers))
    page = client.get("/account/links/").content.decode()
    assert f'href="/s/{links[-1].token}/"' in page
    older = re.search(r'href="(\?before=\d+)"', page)
    assert older
    assert client.get(f"/account/links/{older[1]}").content.decode().count("revoked</span>") == 1
    assert "You have shared nothing" in logged_in(bob).get("/account/links/").content.decode()


@pytest.mark.parametrize("token", ["%00", "x%00", "%F0%9F%A6%8A", "x" * 5000])
def test_a_token_that_no_database_could_hold_is_simply_not_found(db: None, token: str) -> None:
    somewhere = f"{uuid.uuid4()}/thumb/"
    paths = [f"/s/{token}/", f"/s/{token}/social.jpg", f"/s/{token}/{somewhere}"]
    assert [status(path) for path in paths] == [404, 404, 404]


def test_a_picture_that_was_taken_down_is_gone_from_its_runs_link_too(alice: User, hers: Picture) -> None:
    of_run, alone = share(alice, hers.job.run), share(alice, hers)
    assert status(f"{of_run.get_absolute_url()}{hers.pk}/thumb/") == 200
    ShareLink.objects.filter(pk=alone.pk).update(taken_down=timezone.now(), takedown_reason="Reported")
    assert status(f"{of_run.get_absolute_url()}{hers.pk}/thumb/") == 404


def test_the_pictures_of_a_run_that_was_taken_down_cannot_be_shared_one_by_one(
    alice: User, hers: Picture
) -> None:
    share(alice, hers.job.run)
    before = share(alice, hers)
    ShareLink.objects.filter(run=hers.job.run).update(taken_down=timezone.now(), takedown_reason="Reported")
    assert status(before.get_absolute_url()) == 404
    ShareLink.objects.filter(pk=before.pk).update(revoked=timezone.now())
    logged_in(alice).post(f"{hers.get_absolute_url()}share/")
    assert not ShareLink.objects.live().exists()
