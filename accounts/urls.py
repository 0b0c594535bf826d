from django.urls import path

from accounts import views

urlpatterns = [
    path("account/", views.account, name="account"),
    path("accounts/email/", views.email, name="account_email"),
]
