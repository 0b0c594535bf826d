"""The product's addresses, and a plain Django view beside them: what createTask and recordInfo are compared with.

`/bench/plain/` goes through every middleware of the site, as a view of Django's does. `/api/bench/plain` is the same
view at an address that is treated as the API's own.
"""

import json

from django.db import connection, models, transaction
from django.db.models import F
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt

from accounts import keys
from accounts.models import ApiKey, User
from playground.urls import urlpatterns as product

EACH = 50_000


class Purse(models.Model):
    """As a wallet is: one row that all orders of an account change."""

    user = models.OneToOneField(User, models.CASCADE, related_name="+", primary_key=True)
    posted = models.BigIntegerField()
    held = models.BigIntegerField(default=0)

    class Meta:
        app_label = "benchmarks"


class Entry(models.Model):
    purse = models.ForeignKey(Purse, models.CASCADE)
    prompt = models.TextField()
    amount = models.BigIntegerField()
    created = models.DateTimeField(default=timezone.now)

    class Meta:
        app_label = "benchmarks"


def prepare() -> None:
    """The two tables, and a purse for everybody who has none."""
    if Purse._meta.db_table not in connection.introspection.table_names():
        with connection.schema_editor() as editor:
            editor.create_model(Purse)
            editor.create_model(Entry)
    have = set(Purse.objects.values_list("pk", flat=True))
    Purse.objects.bulk_create(Purse(user=user, posted=10**15) for user in User.objects.exclude(pk__in=have))


@csrf_exempt
def plain(request: HttpRequest) -> JsonResponse:
    """One key look-up, one conditional UPDATE, one INSERT."""
    asked = json.loads(request.body)
    text = request.headers["Authorization"].removeprefix("Bearer ")
    with transaction.atomic():
        key = ApiKey.objects.select_related("user").get(digest=keys.digest(text), revoked=None)
        purse = Purse.objects.filter(user=key.user, posted__gte=F("held") + EACH)
        if not purse.update(held=F("held") + EACH):
            return JsonResponse({"error": "no money"}, status=402)
        prompt = asked["input"]["prompt"]
        entry = Entry.objects.create(purse_id=key.user_id, prompt=prompt, amount=EACH)
    return JsonResponse({"id": entry.pk})


urlpatterns = [*product, path("bench/plain/", plain), path("api/bench/plain", plain)]
