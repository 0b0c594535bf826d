"""What you make: the catalogue, runs and their jobs, pictures in and out, links, and the house's own rows."""

from playground.models.catalogue import Price, Route, Variant, VariantQuerySet
from playground.models.house import DriveBeat, Switch, Upstream, UpstreamState
from playground.models.owned import OwnedQuerySet, new_token
from playground.models.pictures import Picture, PictureQuerySet, RunInput, Upload
from playground.models.sharing import ShareLink
from playground.models.usage import UsageDay
from playground.models.work import Job, JobEvent, Run

__all__ = [
    "DriveBeat",
    "Job",
    "JobEvent",
    "OwnedQuerySet",
    "Picture",
    "PictureQuerySet",
    "Price",
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
    "new_token",
]
