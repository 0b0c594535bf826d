from django.urls import path
from django.views.generic import RedirectView

from accounts.admin.mails import mail_html, mails
from accounts.views import account, caps, keys, settings, statements, topups

urlpatterns = [
    path("account/", account.account, name="account"),
    path("account/buy/", topups.buy, name="buy"),
    path("account/purchases/<uuid:top_up_id>/", topups.top_up, name="top_up"),
    path("account/purchases/<uuid:top_up_id>/progress/", topups.top_up_progress, name="top_up_progress"),
    path("account/purchases/<uuid:top_up_id>/receipt/", topups.receipt, name="receipt"),
    path("account/statements/", statements.statements, name="statements"),
    path("account/statements/<slug:name>/", statements.month, name="statement"),
    path("account/statements/<slug:name>.csv", statements.month_csv, name="statement_csv"),
    path("account/statements/<slug:name>.pdf", statements.month_pdf, name="statement_pdf"),
    path("hooks/stripe/", topups.stripe_hook, name="stripe_hook"),
    path("settings/caps/", caps.spend_caps, name="caps"),
    path("settings/caps/<slug:window>/", caps.spend_cap, name="cap"),
    path("settings/keys/", keys.keys, name="keys"),
    path("settings/keys/new/", keys.key_make, name="key_make"),
    path("settings/keys/<int:key_id>/", keys.key, name="key"),
    path("settings/keys/<int:key_id>/rotate/", keys.key_rotate, name="key_rotate"),
    path("settings/keys/<int:key_id>/revoke/", keys.key_revoke, name="key_revoke"),
    path("admin/mails/", mails, name="admin_mails"),
    path("admin/mails/<slug:slug>/", mails, name="admin_mail"),
    path("admin/mails/<slug:slug>/html/", mail_html, name="admin_mail_html"),
    path("settings/", RedirectView.as_view(pattern_name="profile")),
    path("settings/profile/", settings.profile, name="profile"),
    path("settings/security/", settings.security, name="security"),
    path("settings/sessions/", settings.sessions, name="sessions"),
    path("settings/sessions/<int:session_id>/end/", settings.session_end, name="session_end"),
    path("settings/sessions/end-others/", settings.sessions_end_others, name="sessions_end_others"),
    path("settings/notifications/", settings.notifications, name="notifications"),
    # Where allauth has pages of its own for these, ours are better.
    path("accounts/2fa/", RedirectView.as_view(pattern_name="security")),
    path("accounts/sessions/", RedirectView.as_view(pattern_name="sessions")),
    path("accounts/email/", account.email, name="account_email"),
]
