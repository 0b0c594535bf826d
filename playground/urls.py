from django.contrib import admin
from django.urls import include, path, re_path

from playground import webhooks
from playground.views import catalog, gallery, pictures, playground, runs, share, uploads, usage
from playground.views.health import healthz

urlpatterns = [
    path("", playground.playground, name="playground"),
    path("quote/", playground.quote, name="quote"),
    path("quote/variants/", playground.variant_choices, name="variant_choices"),
    path("runs/", playground.runs, name="runs"),
    path("runs/<uuid:run_id>/", runs.run, name="run"),
    path("runs/<uuid:run_id>/progress/", runs.run_progress, name="run_progress"),
    path("jobs/<uuid:job_id>/cancel/", runs.job_cancel, name="job_cancel"),
    path("jobs/<uuid:job_id>/retry/", runs.job_retry, name="job_retry"),
    path("pricing/", catalog.pricing, name="pricing"),
    path("models/", catalog.variants, name="variants"),
    path("models/<slug:slug>/", catalog.variant, name="variant"),
    path("gallery/", gallery.gallery, name="gallery"),
    path("gallery/pick/", gallery.gallery_pick, name="gallery_pick"),
    path("jobs/<uuid:job_id>/", pictures.job, name="job"),
    path("pictures/<uuid:picture_id>/", pictures.picture, name="picture"),
    path("pictures/<uuid:picture_id>/download/", pictures.picture_download, name="picture_download"),
    path("pictures/<uuid:picture_id>/keep/", pictures.picture_keep, name="picture_keep"),
    path("pictures/<uuid:picture_id>/delete/", pictures.picture_delete, name="picture_delete"),
    path("pictures/<uuid:picture_id>/undelete/", pictures.picture_undelete, name="picture_undelete"),
    path("pictures/<uuid:picture_id>/share/", share.share_picture, name="share_picture"),
    path("pictures/<uuid:picture_id>/<str:size>/", pictures.picture_image, name="picture_image"),
    path("runs/<uuid:run_id>/share/", share.share_run, name="share_run"),
    path("account/links/", share.share_links, name="share_links"),
    path("usage/", usage.report, name="usage"),
    re_path(r"^usage/(?P<form>csv|json)/$", usage.export, name="usage_export"),
    path("uploads/", uploads.uploads, name="uploads"),
    path("uploads/<uuid:upload_id>/delete/", uploads.upload_delete, name="upload_delete"),
    path("uploads/<uuid:upload_id>/<str:size>/", uploads.upload_image, name="upload_image"),
    path("inputs/<str:signed>/", uploads.upload_signed, name="upload_signed"),
    path("s/<slug:token>/", share.share, name="share"),
    path("s/<slug:token>/revoke/", share.share_revoke, name="share_revoke"),
    path("s/<slug:token>/social.jpg", share.share_social, name="share_social"),
    path("s/<slug:token>/<uuid:picture_id>/<str:size>/", share.share_image, name="share_image"),
    path("healthz", healthz, name="healthz"),
    path("hooks/<slug:token>/", webhooks.upstream_hook, name="upstream_hook"),
    path("", include("accounts.urls")),
    path("accounts/", include("allauth.urls")),
    path("admin/", admin.site.urls),
]
