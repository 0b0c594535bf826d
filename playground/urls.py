from django.contrib import admin
from django.urls import include, path

from playground import webhooks
from playground.views import playground
from playground.views.health import healthz

urlpatterns = [
    path("", playground.playground, name="playground"),
    path("healthz", healthz, name="healthz"),
    path("hooks/<str:token>/", webhooks.upstream_hook, name="upstream_hook"),
    path("", include("accounts.urls")),
    path("accounts/", include("allauth.urls")),
    path("admin/", admin.site.urls),
]
