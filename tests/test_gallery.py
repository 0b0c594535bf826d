import re
import uuid
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import User
from playground.models import Job, Picture, Variant
from playground.views import gallery
from tests.making import KONTEXT, PRO, give, picture_for


@pytest.fixture
def client_of() -> Any:
    def logged_in(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return logged_in


def copies(picture: Picture, count: int) -> None:
    """More pictures like this one, without the work of making them: rows only."""
    job, hold = picture.job, picture.job.hold
    for _ in range(count):
        hold.pk, hold.business_id = None, uuid.uuid4().hex
        hold.save()
        job.pk, job.hold, job.upstream_id, job.callback_token = Job().pk, hold, None, uuid.uuid4().hex
        job.save(force_insert=True)
        picture.pk, picture.job = Picture().pk, job
        picture.save(force_insert=True)


def shown(page: str) -> list[str]:
    return re.findall(r'href="/pictures/([0-9a-f-]+)/"', page)


def page_of(client: Client, query: str = "", **headers: str) -> str:
    response = client.get(f"/gallery/{query}", headers=headers)
    assert response.status_code == 200
    return unescape(response.content.decode())


@pytest.mark.django_db
def test_strangers_are_asked_to_log_in() -> None:
    assert Client().get("/gallery/").headers["Location"] == "/accounts/login/?next=/gallery/"


def test_an_empty_gallery_invites_to_make_a_picture(alice: User, client_of: Any) -> None:
    assert "Make your first picture" in page_of(client_of(alice))


def test_alice_sees_hers_newest_first_with_known_sizes(alice: User, bob: User, client_of: Any) -> None:
    give(alice), give(bob)
    first, second = picture_for(alice), picture_for(alice)
    picture_for(bob)
    page = page_of(client_of(alice))
    assert shown(page) == [str(second.pk), str(first.pk)]
    assert f'src="/pictures/{first.pk}/thumb/" width="256" height="256" loading="lazy"' in page
    assert 'alt="a fox in the snow, by FLUX.2 pro 1K, seed ' in page


def test_deleted_pictures_are_gone_and_can_come_back(alice: User, client_of: Any) -> None:
    give(alice)
    picture = picture_for(alice)
    client = client_of(alice)
    response = client.post(f"/pictures/{picture.pk}/delete/")
    assert (response.status_code, response["Location"]) == (303, f"/gallery/?deleted={picture.pk}")
    page = page_of(client, f"?deleted={picture.pk}")
    assert shown(page) == []
    assert f'action="/pictures/{picture.pk}/undelete/"' in page
    client.post(f"/pictures/{picture.pk}/undelete/")
    assert shown(page_of(client)) == [str(picture.pk)]


def test_a_preview_is_marked_with_its_price(alice: User, client_of: Any) -> None:
    picture_for(alice, pay="preview")
    page = page_of(client_of(alice))
    assert ">preview</span>" in page
    assert "5.00 to keep" in page


def test_the_filter_is_in_the_address_and_offers_what_there_is(alice: User, client_of: Any) -> None:
    give(alice)
    pro, kontext = picture_for(alice), picture_for(alice)
    Picture.objects.filter(pk=kontext.pk).update(variant=Variant.objects.get(slug=KONTEXT))
    page = page_of(client_of(alice), f"?variant={PRO}")
    assert shown(page) == [str(pro.pk)]
    assert f'<option value="{PRO}" selected>' in page
    assert f'<option value="{KONTEXT}">' in page
    assert "flex" not in page
    assert shown(page_of(client_of(alice), f"?variant={KONTEXT}")) == [str(kontext.pk)]
    assert len(shown(page_of(client_of(alice), "?variant=nonsense"))) == 2


def test_pages_follow_one_another_without_gaps_while_new_pictures_arrive(
    alice: User, client_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "PAGE", 4)
    give(alice)
    copies(picture_for(alice), 9)
    everything = [str(pk) for pk in Picture.objects.order_by("-pk").values_list("pk", flat=True)]
    client, seen, query = client_of(alice), [], ""
    for _ in range(3):
        page = page_of(client, query)
        seen += shown(page)
        picture_for(alice)
        if older := re.search(r'rel="next" href="/gallery/(\?before=[0-9a-f-]+)"', page):
            query = older[1]
    assert seen == everything
    assert older is None


def test_htmx_gets_the_next_tiles_and_nothing_around_them(
    alice: User, client_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "PAGE", 2)
    give(alice)
    copies(picture_for(alice), 4)
    client = client_of(alice)
    last = shown(page_of(client))[-1]
    tiles = page_of(client, f"?before={last}", HX_Request="true", HX_Target="more")
    assert len(shown(tiles)) == 2
    assert tiles.strip().startswith("<li")
    assert 'id="more"' in tiles


def test_a_page_costs_the_same_however_many_pictures(
    alice: User, client_of: Any, django_assert_max_num_queries: Any
) -> None:
    give(alice)
    copies(picture_for(alice), 60)
    client = client_of(alice)
    with django_assert_max_num_queries(7):
        assert len(shown(page_of(client))) == gallery.PAGE


@pytest.mark.parametrize("query", ["?before=x", "?before=", "?deleted=1", "?variant=%00", "?before=%00"])
def test_a_mangled_address_is_the_first_page(alice: User, client_of: Any, query: str) -> None:
    give(alice)
    picture = picture_for(alice)
    assert shown(page_of(client_of(alice), query)) == [str(picture.pk)]


def test_bob_can_neither_delete_nor_bring_back_what_is_alices(alice: User, bob: User, client_of: Any) -> None:
    give(alice)
    picture = picture_for(alice)
    assert client_of(bob).post(f"/pictures/{picture.pk}/delete/").status_code == 404
    Picture.objects.update(deleted=timezone.now())
    assert client_of(bob).post(f"/pictures/{picture.pk}/undelete/").status_code == 404
    assert "Undo" not in page_of(client_of(bob), f"?deleted={picture.pk}")
