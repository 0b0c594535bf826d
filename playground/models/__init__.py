"""What you make: the catalogue, runs and their jobs, pictures in and out, links, and the house's own rows."""

from playground.models.callbacks import Delivery, DeliveryAttempt, WebhookEndpoint
from playground.models.calls import IdempotentCall
from playground.models.catalogue import Price, Route, Variant, VariantQuerySet
from playground.models.house import AuditRun, DriveBeat, Switch, Upstream, UpstreamState
from playground.models.owned import OwnedQuerySet, new_token
from playground.models.pictures import Picture, PictureQuerySet, RunInput, Upload
from playground.models.sharing import Report, ShareLink
from playground.models.usage import HouseClosed, HouseDay, UsageDay
from playground.models.work import Job, JobEvent, Run

__all__ = [
    "AuditRun",
    "Delivery",
    "DeliveryAttempt",
    "DriveBeat",
    "HouseClosed",
    "HouseDay",
    "IdempotentCall",
    "Job",
    "JobEvent",
    "OwnedQuerySet",
    "Picture",
    "PictureQuerySet",
    "Price",
    "Report",
    "Route",
    "Run",
    "RunInput",
    "ShareLink",
    "Switch",
    "Upload",
    "Upstream",
    "UpstreamState",
    "UsageDay",
    "Variant",
    "VariantQuerySet",
    "WebhookEndpoint",
    "new_token",
]
