"""Runs that are made from pictures: which variants take them, in which shape, and what a repetition keeps."""

import re
import uuid
from html import unescape
from typing import Any

import pytest
from django.http import QueryDict
from django.test import Client

from accounts.models import User
from playground import catalog, forms, jobs, orders, upkeep, uploads
from playground.forms import Draft, RunForm
from playground.models import Job, Run, RunInput, Upload, Variant
from tests.making import EDIT, KONTEXT, PRO, give, load_catalogue, picture_for, run_for
from tests.pictures import photo

pytestmark = pytest.mark.django_db

WIDE = photo(size=(1600, 900))


@pytest.fixture
def rich(alice: User) -> User:
    load_catalogue()
    give(alice)
    return alice


@pytest.fixture
def hers(rich: User) -> Client:
    client = Client()
    client.force_login(rich)
    return client


def query(**asked: Any) -> QueryDict:
    data = QueryDict(mutable=True)
    for name, value in asked.items():
        data.setlist(name, [str(one) for one in value] if isinstance(value, list) else [str(value)])
    return data


def many(user: User, count: int) -> list[Upload]:
    return [uploads.take(user, photo(f"rgb({n * 25},9,9)")) for n in range(count)]


# --- Ordering -----------------------------------------------------------------------------------------
def test_an_edit_keeps_its_inputs_in_order_with_the_run_and_with_each_job(rich: User) -> None:
    two = many(rich, 2)
    run = run_for(rich, EDIT, count=2, inputs=two[::-1])
    assert list(run.inputs.values_list("position", "upload")) == [(0, two[1].pk), (1, two[0].pk)]
    for job in run.jobs.all():
        assert job.params["inputs"] == [str(two[1].pk), str(two[0].pk)]
    assert "inputs" not in run_for(rich, PRO).jobs.get().params


@pytest.mark.parametrize(
    ("slug", "count", "says"),
    [
        (EDIT, 0, "FLUX.2 pro edit 1K needs an input picture."),
        (EDIT, 9, "FLUX.2 pro edit 1K takes only 8 input pictures."),
        (KONTEXT, 2, "Kontext Pro takes only 1 input picture."),
        (PRO, 1, "FLUX.2 pro 1K takes no input picture."),
    ],
)
def test_each_variant_takes_as_many_as_it_takes(rich: User, slug: str, count: int, says: str) -> None:
    with pytest.raises(orders.NotPossible) as no:
        run_for(rich, slug, inputs=many(rich, count))
    assert (no.value.field, str(no.value)) == ("inputs", says)
    assert not Run.objects.exists() and not RunInput.objects.exists()
    for fitting in {EDIT: [1, 8], KONTEXT: [0, 1], PRO: [0]}[slug]:
        run_for(rich, slug, inputs=many(rich, fitting))


def test_the_shape_follows_the_first_input_as_near_as_each_variant_can(rich: User) -> None:
    strip = uploads.take(rich, photo(size=(2400, 1000)))
    run = run_for(rich, EDIT, KONTEXT, aspect_ratio="auto", inputs=[strip])
    ratios = {job.variant.slug: job.params["aspect_ratio"] for job in run.jobs.all()}
    assert ratios == {EDIT: "16:9", KONTEXT: "21:9"}
    assert run.aspect_ratio == "auto"
    wide = run.jobs.get(variant__slug=KONTEXT).params
    assert (wide["width"], wide["height"]) == catalog.size("21:9", "")
    with pytest.raises(orders.NotPossible, match="follows the first input picture, and there is none"):
        run_for(rich, KONTEXT, aspect_ratio="auto")


def test_nobody_makes_anything_of_a_strangers_picture(rich: User, bob: User) -> None:
    his = uploads.take(bob, photo())
    with pytest.raises(orders.NotPossible, match="not there any more"):
        run_for(rich, EDIT, inputs=[his])
    assert not Run.objects.exists()


def test_what_was_removed_a_moment_ago_stops_the_run(rich: User) -> None:
    upload = uploads.take(rich, photo())
    uploads.remove(upload)
    with pytest.raises(orders.NotPossible, match="not there any more"):
        run_for(rich, EDIT, inputs=[upload])
    assert not Run.objects.exists() and upkeep.audit() == []


def test_a_retry_keeps_the_inputs_while_they_are_there(rich: User) -> None:
    upload = uploads.take(rich, photo())
    first = run_for(rich, EDIT, aspect_ratio="auto", inputs=[upload]).jobs.get()
    assert jobs.cancel(first, by=rich)
    again = orders.retry(Job.objects.get(pk=first.pk))
    assert again.params == first.params
    assert jobs.cancel(again, by=rich)
    uploads.remove(upload)
    with pytest.raises(orders.NotPossible, match="has been removed"):
        orders.retry(Job.objects.get(pk=again.pk))


# --- The form -----------------------------------------------------------------------------------------
def asked(user: User, **changes: Any) -> dict[str, Any]:
    form = RunForm(query(prompt="a fox", **changes), on_offer=catalog.live(), user=user)
    assert form.is_valid(), form.errors
    return form.cleaned_data


def test_the_form_takes_inputs_in_order_and_each_once(rich: User) -> None:
    one, two = many(rich, 2)
    found = asked(rich, variants=EDIT, inputs=[two.pk, one.pk, two.pk])
    assert found["inputs"] == [two, one]
    assert found["aspect_ratio"] == "auto"
    assert asked(rich, variants=PRO)["aspect_ratio"] == "1:1"


@pytest.mark.parametrize("wrong", ["bobs", "unknown", "no-id", "\x00"])
def test_an_input_that_is_not_hers_is_an_error_beside_the_field(rich: User, bob: User, wrong: str) -> None:
    ids = {"bobs": uploads.take(bob, photo()).pk, "unknown": uuid.uuid4()}
    form = RunForm(
        query(prompt="x", variants=EDIT, inputs=ids.get(wrong, wrong)), on_offer=catalog.live(), user=rich
    )
    assert form.errors["inputs"] == ["An input picture is not there any more. Add it again."]


def test_one_form_with_other_inputs_is_another_run(rich: User) -> None:
    one, two = many(rich, 2)
    nonces = [
        asked(rich, variants=EDIT, nonce="n", inputs=inputs)["nonce"]
        for inputs in ([one.pk, two.pk], [two.pk, one.pk], [one.pk], [one.pk, two.pk])
    ]
    assert nonces[0] == nonces[3] and len(set(nonces)) == 3


def test_alice_orders_an_edit_on_the_page(hers: Client, rich: User) -> None:
    upload = uploads.take(rich, WIDE)
    order = {
        "prompt": "make it night",
        "variants": [EDIT, KONTEXT],
        "inputs": [str(upload.pk)],
        "aspect_ratio": "auto",
    }
    response = hers.post("/runs/", order)
    run = Run.objects.get()
    assert (response.status_code, response["Location"]) == (303, run.get_absolute_url())
    assert [row.upload for row in run.inputs.all()] == [upload]
    assert hers.get(run.get_absolute_url()).status_code == 200
    refused = hers.post("/runs/", order | {"variants": [PRO]})
    assert refused.status_code == 422 and "takes no input picture" in refused.content.decode()


# --- The draft ----------------------------------------------------------------------------------------
def test_the_draft_says_which_variant_does_not_fit_the_inputs(rich: User, bob: User) -> None:
    upload, on_offer = uploads.take(rich, WIDE), catalog.live()

    def draft(user: User = rich, **changes: Any) -> Draft:
        return Draft.read(query(**changes), on_offer, user)

    fits = draft(variants=[EDIT, KONTEXT], inputs=upload.pk)
    assert (fits.inputs, fits.aspect_ratio, fits.input_refusal) == ([upload], "auto", "")
    assert fits.ratio_refusal == ""
    assert (
        draft(variants=[EDIT, PRO], inputs=upload.pk).input_refusal == "FLUX.2 pro 1K takes no input picture."
    )
    assert draft(variants=[EDIT]).input_refusal == "FLUX.2 pro edit 1K needs an input picture."
    his = draft(bob, variants=[EDIT], inputs=upload.pk, aspect_ratio="auto")
    assert (his.inputs, his.aspect_ratio) == ([], "1:1")


def test_a_card_says_what_it_needs_only_while_it_lacks_it(rich: User) -> None:
    edit, kontext, pro = (Variant.objects.priced().get(slug=slug) for slug in (EDIT, KONTEXT, PRO))
    assert catalog.why_not(edit) == "Needs an input picture."
    assert catalog.why_not(edit, inputs=1) == catalog.why_not(edit, inputs=None) == ""
    assert catalog.why_not(kontext) == catalog.why_not(kontext, inputs=1) == ""
    assert catalog.why_not(kontext, inputs=2) == "Takes only 1 input picture."
    assert catalog.why_not(pro, inputs=1) == "Takes no input picture."


# --- Again --------------------------------------------------------------------------------------------
def test_making_it_again_starts_from_the_same_inputs(hers: Client, rich: User) -> None:
    upload = uploads.take(rich, WIDE)
    run = run_for(rich, EDIT, aspect_ratio="auto", inputs=[upload])
    again = Draft.read(QueryDict(forms.query_of_run(run)), catalog.live(), rich)
    assert (again.inputs, again.aspect_ratio) == ([upload], "auto")
    one_more = Draft.read(QueryDict(forms.query_of_job(run.jobs.get())), catalog.live(), rich)
    assert (one_more.inputs, one_more.aspect_ratio) == ([upload], "16:9")
    assert hers.get(f"/?run={run.pk}").context["draft"].inputs == [upload]


def test_edit_this_opens_the_form_with_that_picture(hers: Client, rich: User, bob: User) -> None:
    picture = picture_for(rich)
    draft = hers.get(f"/?edit={picture.pk}").context["draft"]
    [upload] = draft.inputs
    assert upload.picture == picture
    assert draft.aspect_ratio == "auto"
    assert draft.chosen and draft.input_refusal == ""
    stranger = Client()
    stranger.force_login(bob)
    assert stranger.get(f"/?edit={picture.pk}").context["draft"].inputs == []


@pytest.mark.parametrize("name", ["edit", "remix", "run"])
def test_whoever_is_logged_out_logs_in_first_and_comes_back_to_what_it_starts_from(
    client: Client, name: str
) -> None:
    response = client.get(f"/?{name}=some-id")
    assert (response.status_code, response["Location"]) == (
        302,
        f"/accounts/login/?next=/%3F{name}%3Dsome-id",
    )
    assert client.get("/?prompt=a+fox").status_code == 200


def test_an_input_that_is_gone_is_told_of_and_holds_the_run(hers: Client, rich: User) -> None:
    gone, kept = uploads.take(rich, WIDE), uploads.take(rich, photo())
    run = run_for(rich, EDIT, aspect_ratio="auto", inputs=[gone, kept])
    assert "data-blocked" not in hers.get(f"/?run={run.pk}").content.decode()
    Upload.objects.filter(pk=gone.pk).update(key="")
    for asked in (f"run={run.pk}", f"inputs={gone.pk}&inputs={kept.pk}&variants={EDIT}"):
        html = hers.get(f"/?{asked}").content.decode()
        assert (
            html.count("An input picture is not there any more. Add it again.") == 3
        )  # strip, price, button
        assert 'name="gone"' in html and "data-blocked" in html
    still = hers.get("/quote/", {"gone": "1", "inputs": kept.pk, "variants": EDIT})
    assert "data-blocked" in still.content.decode()
    found = re.search(r"\?([^\"]+)\" data-fit>([^<]+)<", still.content.decode())
    assert found
    otherwise, label = unescape(found[1]), found[2]
    assert label == "Go on without it" and "gone" not in otherwise
    assert "data-blocked" not in hers.get(f"/quote/?{otherwise}").content.decode()


def test_a_form_whose_input_went_meanwhile_comes_back_and_waits(hers: Client, rich: User) -> None:
    gone = uploads.take(rich, WIDE)
    uploads.remove(gone)
    response = hers.post("/runs/", {"prompt": "a fox", "variants": [KONTEXT], "inputs": [gone.pk]})
    assert response.status_code == 422 and response.context["draft"].lacks_input


def test_edit_this_says_why_it_cannot(hers: Client, rich: User, settings: Any) -> None:
    picture = picture_for(rich)
    uploads.take(rich, photo())
    settings.UPLOADS_PER_ACCOUNT = 1
    response = hers.get(f"/?edit={picture.pk}")
    assert response.context["draft"].inputs == []
    assert "which is the most" in response.content.decode()
