"""What an account has left, and addresses from which a result is saved."""

from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from ninja import Router, Schema
from pydantic import ConfigDict, Field

from accounts import credits, ledger
from playground import result_links
from playground.api import envelopes, tasks
from playground.api.auth import Caller, caller
from playground.api.errors import Problem
from playground.models import Picture

router = Router(tags=["Account"])


class CreditReply(Schema):
    code: int = Field(200, examples=[200])
    msg: str = "success"
    data: float = Field(
        description="Credits that can be spent, rounded down to hundredths; 1 credit is $0.007."
    )


class DownloadUrl(Schema):
    model_config = ConfigDict(extra="forbid")

    url: str = Field(description="The address of a result, as recordInfo gave it.")


class DownloadReply(Schema):
    code: int = Field(200, examples=[200])
    msg: str = "success"
    data: str = Field(description="An address that saves the file, without a key, for 20 minutes.")


@router.get("/chat/credit", response={200: CreditReply}, operation_id="getCredits")
def credit(request: HttpRequest) -> JsonResponse:
    """How many credits can be spent: the balance without what running tasks hold."""
    available = ledger.wallet_of(caller(request).user).available
    return envelopes.success(in_credits(available))


def in_credits(micros: int) -> float | int:
    """`10_000_000` -> `1428.57`, `35_000` -> `5`: rounded down, so that nobody is promised more."""
    hundredths = max(micros, 0) * 100 // credits.MICROS_PER_CREDIT
    return hundredths // 100 if hundredths % 100 == 0 else hundredths / 100


@router.post("/common/download-url", response={200: DownloadReply}, operation_id="getDownloadUrl")
def download_url(request: HttpRequest, body: DownloadUrl) -> JsonResponse:
    """A fresh address for the file of a result, also where the one that is given is older than a day."""
    asked = caller(request)
    picture, name = _result(asked, body.url)
    format = result_links.format_of(name)
    return envelopes.success(result_links.download_url(picture, tasks.base(request), format=format))


def _result(request: Caller, url: str) -> tuple[Picture, str]:
    """The picture and the name that its address ends with. Raises Problem."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    here = {request.get_host().lower(), urlsplit(settings.BASE_URL).netloc.lower()}
    folder, _, rest = parts.path.lstrip("/").partition("/")
    if not parts.netloc or parts.netloc.lower() not in here or folder != "r":
        words = "This is not the address of a result of ours, as recordInfo gives them."
        raise Problem("invalid_parameter", words, param="url")
    signed, _, name = rest.partition("/")
    picture = result_links.picture_for(signed, good_for=None)
    if picture is None or not tasks.own(request).filter(pk=picture.job_id).exists():
        raise Problem("not_found", "There is no such result of yours.", param="url")
    return picture, name
