"""Makes what a test starts from: the catalogue, people with credits, runs, and jobs in any state."""

import io
import uuid
from typing import Any

from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db import transaction
from django.test import Client
from PIL import Image

from accounts import ledger
from accounts.models import User
from playground import catalog, images, jobs, orders
from playground.ids import new_id
from playground.models import Job, Picture, Run, Variant

PRO = "black-forest-labs-black-forest-labs-flux-2-pro-text-to-image-1-0s-1k"
KONTEXT = "black-forest-labs-black-forest-labs-flux1-kontext-text-to-image-pro"
FLEX_2K = "black-forest-labs-black-forest-labs-flux-2-flex-text-to-image-1-0s-2k"
EDIT = "black-forest-labs-black-forest-labs-flux-2-pro-image-to-image-1-0s-1k"
USD = 1_000_000


def load_catalogue() -> None:
    if not Variant.objects.exists():
        call_command("load_catalog", verbosity=0, stdout=io.StringIO())


def clerk(bob: User, *codenames: str) -> Client:
    """The browser of somebody who is staff now, and may do this and no more."""
    bob.is_staff = True
    bob.save()
    bob.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(bob)
    return client


def give(user: User, usd: int = 10) -> None:
    ledger.grant(user, usd * USD, business_id=f"test:{uuid.uuid4()}", memo="for a test")


def run_for(user: User, *slugs: str, count: int = 1, pay: str = "credits", **changes: Any) -> Run:
    """A run as a press of the button makes it, at 1:1."""
    load_catalogue()
    asked = {"prompt": "a fox in the snow", "aspect_ratio": "1:1", "seed": None, "nonce": uuid.uuid4().hex}
    return orders.submit_run(
        user, variants=catalog.by_slugs(slugs or [PRO]), count=count, pay=pay, **(asked | changes)
    )


def job_for(user: User, call: orders.Call | None = None, **asked: Any) -> Job:
    """One job of a run; or, with a `call`, what that API call ordered."""
    if call is None:
        return run_for(user, **asked).jobs.get()
    load_catalogue()
    [variant] = catalog.by_slugs([PRO])
    with transaction.atomic():
        [job] = orders.submit_call(call, variant=variant, prompt="a fox", aspect_ratio="1:1", seed=None)
    return job


def leased(job: Job, owner: str = "drive") -> Job:
    """The job in the hands of a drive."""
    [claimed] = [mine for mine in jobs.claim(owner, 1000) if mine.pk == job.pk]
    return claimed


def rendered(size: tuple[int, int] = (256, 256), *, with_preview: bool = True) -> images.Rendered:
    data = io.BytesIO()
    Image.radial_gradient("L").resize(size).convert("RGB").save(data, "JPEG")
    return images.render(data.getvalue(), with_preview=with_preview)


def picture_for(user: User, **asked: Any) -> Picture:
    """A picture that went all the way: sent, fetched, stored and paid for (or previewed)."""
    return draw(job_for(user, **asked))


def draw(job: Job) -> Picture:
    """What a drive does with an open job, at once."""
    job = leased(job)
    key, made = images.new_key(new_id()), rendered()
    assert (
        jobs.sending(job)
        and jobs.started(job, f"up-{job.pk}")
        and jobs.ready(job, ["https://up.example/1.jpg"])
    )
    images.store(key, made)
    assert jobs.succeed(job, key, made)
    return Picture.objects.get(job=job)
