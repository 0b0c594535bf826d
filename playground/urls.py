from django.contrib import admin
from django.urls import include, path

from playground import webhooks
from playground.views import catalog, playground
from playground.views.health import healthz

urlpatterns = [
    path("", playground.playground, name="playground"),
    path("quote/", playground.quote, name="quote"),
    path("quote/variants/", playground.variant_choices, name="variant_choices"),
    path("runs/", playground.runs, name="runs"),
    path("pricing/", catalog.pricing, name="pricing"),
    path("models/", catalog.variants, name="variants"),
    path("models/<slug:slug>/", catalog.variant, name="variant"),
    path("healthz", healthz, name="healthz"),
    path("hooks/<str:token>/", webhooks.upstream_hook, name="upstream_hook"),
    path("", include("accounts.urls")),
    path("accounts/", include("allauth.urls")),
    path("admin/", admin.site.urls),
]
