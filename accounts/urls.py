from django.urls import path

from accounts import cap_views, views

urlpatterns = [
    path("account/", views.account, name="account"),
    path("settings/caps/", cap_views.spend_caps, name="caps"),
    path("settings/caps/<slug:window>/", cap_views.spend_cap, name="cap"),
    path("accounts/email/", views.email, name="account_email"),
]
