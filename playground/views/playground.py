"""The playground page: the form, its live quote, and the run that it makes."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote as quoted

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import urlencode
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_http_methods, require_safe

from accounts import ledger
from playground import catalog, forms, images, offers, orders, uploads
from playground.forms import Draft, RunForm
from playground.http import Request, SeeOther
from playground.models import Picture, Run, Variant
from playground.views.uploads import Refused, take

CARDS_A_PAGE = 12
OWN_ROWS = {"run", "remix", "edit"}  # what the form may start from, of the person's own
DRAFT = "draft"  # in the session: a visitor's form, kept while they sign up
SAY_MAKE = "Describe it: the subject, the light, the style, any words that must appear."
SAY_EDIT = "Say what should change, or how the pictures come together."
EXAMPLES = [
    (
        "a quiet room",
        "A lighthouse keeper’s desk at dawn, brass instruments, a mug of tea, soft window light",
    ),
    (
        "a travel poster",
        "Poster for a night train from Lisbon to Oslo, flat shapes, four colours, the word LISBOA in large letters",
    ),
    ("a close-up", "Macro photograph of frost on a red maple leaf, shallow depth of field, early sun"),
]


# --- The page -----------------------------------------------------------------------------------------
@require_safe
@cache_control(private=True, no_cache=True)
def playground(request: Request) -> HttpResponse:
    """The form, filled in from the query string, from an earlier run or from what a visitor left before signing up."""
    if not request.user.is_authenticated and request.GET.keys() & OWN_ROWS:
        return redirect_to_login(request.get_full_path())
    on_offer = catalog.live()
    data = QueryDict(_remembered(request), mutable=True)
    is_default_choice = "variants" not in data
    if is_default_choice:
        data.setlist("variants", _usual_variants(request, data, on_offer))
    draft = Draft.read(data, on_offer, request.user)
    return _page(request, draft, on_offer, is_default_choice=is_default_choice)


def _page(
    request: Request,
    draft: Draft,
    on_offer: Sequence[Variant],
    form: RunForm | None = None,
    *,
    is_default_choice: bool = False,
) -> HttpResponse:
    context = {
        **_quote(request, draft, on_offer),
        **_cards(draft, on_offer, words="", shown=CARDS_A_PAGE),
        "errors": form.errors if form else {},
        "nonce": forms.new_nonce(),
        "counts": range(1, orders.MAX_COUNT + 1),
        "max_seed": orders.MAX_SEED,
        "has_search": len(on_offer) > CARDS_A_PAGE,
        "examples": EXAMPLES,
        "most_inputs": forms.MOST_INPUTS,
        "most_mb": images.MAX_INPUT_BYTES // 1_000_000,
        "say_make": SAY_MAKE,
        "say_edit": SAY_EDIT,
        "input_gone": forms.INPUT_GONE,
        "is_default_choice": is_default_choice,
    }
    return render(request, "playground.html", context, status=422 if form else 200)


def _usual_variants(request: Request, data: QueryDict, on_offer: Sequence[Variant]) -> list[str]:
    """The slugs that a form starts with: the cheapest two that take its input pictures."""
    inputs = len(forms.own_inputs(data.getlist("inputs"), request.user))
    return [variant.slug for variant in on_offer if not catalog.why_not(variant, inputs=inputs)][:2]


def _remembered(request: Request) -> str:
    """What the form starts from, as a query string.

    `run`, `remix` and `edit` name a run and pictures of the person's own: to make again, to make more of, to change.
    """
    if run := _own(Run.objects.visible_to(request.user), request.GET.get("run")):
        return forms.query_of_run(run)
    pictures = Picture.objects.visible_to(request.user).kept().select_related("job__variant")
    if picture := _own(pictures, request.GET.get("remix")):
        return forms.query_of_job(picture.job)
    if picture := _own(pictures, request.GET.get("edit")):
        return _query_of_edit(request, picture)
    return request.GET.urlencode() or request.session.get(DRAFT, "")


def _query_of_edit(request: Request, picture: Picture) -> str:
    try:
        upload = take(request, lambda: uploads.take_picture(request.user, picture))
    except Refused as no:
        manage = format_html(' <a href="{}">Your input pictures</a>', reverse("uploads"))
        messages.error(request, format_html("{}{}", no, manage if no.status == 409 else ""))
        return ""
    return urlencode({"inputs": str(upload.pk), "aspect_ratio": catalog.AUTO})


def _own(rows: QuerySet[Any], pk: str | None) -> Any:
    """The row of that id, or None, also for what is no id at all."""
    try:
        return rows.filter(pk=pk).first() if pk else None
    except ValidationError:
        return None


# --- Fragments: the quote and the cards ---------------------------------------------------------------
@require_safe
@cache_control(no_store=True)
def quote(request: Request) -> HttpResponse:
    """What the form as it stands would make and cost, and which of its parts apply."""
    on_offer = catalog.live()
    draft = Draft.read(request.GET, on_offer, request.user)
    return render(request, "playground.html#quote", {**_quote(request, draft, on_offer), "is_fragment": True})


def _quote(request: Request, draft: Draft, on_offer: Sequence[Variant]) -> dict[str, Any]:
    able = [variant for variant in on_offer if not catalog.why_not(variant, inputs=None)]
    refused_by = {ratio.value: ratio.refused_by for ratio in catalog.ratios(draft.chosen)}
    ratios = [
        (ratio, refused_by.get(ratio.value, ()), bool(draft.chosen) and ratio.value not in refused_by)
        for ratio in catalog.ratios(able)
    ]
    return {
        "draft": draft,
        "priced": f"{timezone.now().timestamp():.3f}",
        "ratios": ratios,
        "asked": catalog.quote(draft.chosen, draft.count),
        **_means(request, draft, on_offer),
    }


def _means(request: Request, draft: Draft, on_offer: Sequence[Variant]) -> dict[str, Any]:
    """Whether the account can have it; for a visitor, nothing stands in the way but signing up."""
    if isinstance(request.user, AnonymousUser):
        return {
            "problem": _problem(draft),
            "previews_limit": settings.PREVIEWS_PER_DAY,
        }
    allowance = offers.Allowance(request.user)
    asked = catalog.quote(draft.chosen, draft.count)
    is_paid = draft.pay == Run.Pay.CREDITS
    refusal = allowance.refusal(draft.chosen, draft.count, draft.pay) if draft.chosen else None
    fits = allowance.nearest(draft.chosen, draft.count, draft.pay) if refusal else []
    if draft.lacks_input:
        fits = [offers.Fit("Go on without it", tuple(draft.chosen), draft.count, draft.pay)]
    elif draft.input_refusal:
        fits = offers.taking(len(draft.inputs), draft.chosen, on_offer, draft.count, draft.pay)
    return {
        "problem": _problem(draft) or refusal,
        "switched": _switched(fits, draft),
        "warning": allowance.warning(draft.chosen, draft.count, draft.pay),
        "fits": [(fit.label, _query_of(fit.variants, fit.count, fit.pay, draft)) for fit in fits],
        "balance_after": allowance.available - (asked.micros if is_paid else 0),
        "previews_left": allowance.previews.left,
        "previews_limit": allowance.previews.limit.limit,
        "is_house_out": allowance.budget.left == 0,
    }


def _problem(draft: Draft) -> str:
    if draft.lacks_input:
        return forms.INPUT_GONE
    return draft.input_refusal or draft.ratio_refusal if draft.chosen else "Choose at least one variant."


def _switched(fits: Sequence[offers.Fit], draft: Draft) -> str:
    """What to say where the page itself turns to the first of these; empty where only the person may."""
    if not fits or draft.lacks_input or not draft.input_refusal:
        return ""
    added = [variant.label for variant in fits[0].variants if variant not in draft.chosen]
    left_out = [variant.label for variant in draft.chosen if variant not in fits[0].variants]
    what = f"Now {' and '.join(added)}" if added else f"Without {' and '.join(left_out)}"
    return f"{what}: {draft.input_refusal}"


def _query_of(variants: Sequence[Variant], count: int, pay: str, draft: Draft) -> str:
    query = QueryDict(mutable=True)
    query.setlist("variants", [variant.slug for variant in variants])
    query.update({"count": str(count), "pay": pay, "aspect_ratio": draft.aspect_ratio, "seed": draft.seed})
    query.setlist("inputs", [str(upload.pk) for upload in draft.inputs])
    if draft.prompt:
        query["prompt"] = draft.prompt
    return query.urlencode()


@require_safe
@cache_control(no_store=True)
def variant_choices(request: Request) -> HttpResponse:
    """The cards that fit the words in the search box, and those that are chosen already."""
    on_offer = catalog.live()
    draft = Draft.read(request.GET, on_offer, request.user)
    shown = request.GET.get("shown", "")
    cards = _cards(
        draft,
        on_offer,
        words=request.GET.get("q", ""),
        shown=int(shown) if shown.isdecimal() and len(shown) < 5 else CARDS_A_PAGE,
    )
    return render(request, "playground.html#cards", {**cards, "draft": draft})


def _cards(draft: Draft, on_offer: Sequence[Variant], *, words: str, shown: int) -> dict[str, Any]:
    """Chosen ones always; of the rest, those that fit; what can be ordered before what cannot."""
    chosen = {variant.slug for variant in draft.chosen}
    fitting = [v for v in on_offer if v.slug in chosen or _fits(v, words)]
    inputs = len(draft.inputs)
    cards = sorted(
        ((v, catalog.why_not(v, inputs=inputs), v.slug in chosen) for v in fitting),
        key=lambda card: card[1] != "",
    )
    page = [card for at, card in enumerate(cards) if at < shown or card[2]]
    return {
        "cards": page,
        "more": len(cards) - len(page),
        "next_shown": shown + CARDS_A_PAGE,
        "words": words,
        "has_none": not any(_fits(v, words) for v in on_offer),
    }


def _fits(variant: Variant, words: str) -> bool:
    text = f"{variant.label} {variant.name} {variant.maker} {variant.family} {variant.blurb}".lower()
    return all(word in text for word in words.lower().split())


# --- The order ----------------------------------------------------------------------------------------
@require_http_methods(["POST", "GET", "HEAD"])
def runs(request: Request) -> HttpResponse:
    """Makes a run and goes to it. Whatever is wrong comes back beside its field, with nothing lost."""
    if request.method != "POST":
        return redirect("playground")
    if not request.user.is_authenticated:
        return _sign_up_first(request)
    on_offer = catalog.live()
    form = RunForm(request.POST, on_offer=on_offer, user=request.user)
    if form.is_valid():
        try:
            run = orders.submit_run(request.user, **form.cleaned_data)
        except orders.NotPossible as no:
            form.add_error(no.field, str(no))
        except ledger.Refusal as no:
            form.add_error(None, str(no))
        else:
            request.session.pop(DRAFT, None)
            return SeeOther(run.get_absolute_url())
    return _page(request, Draft.read(request.POST, on_offer, request.user), on_offer, form)


def _sign_up_first(request: Request) -> HttpResponse:
    kept = QueryDict(mutable=True)
    for name in ("prompt", "variants", "inputs", "aspect_ratio", "count", "seed", "pay"):
        kept.setlist(name, [value[: forms.MAX_PROMPT] for value in request.POST.getlist(name)[:300]])
    request.session[DRAFT] = kept.urlencode()
    return SeeOther(f"{reverse('account_signup')}?next={quoted(reverse('playground'))}")
