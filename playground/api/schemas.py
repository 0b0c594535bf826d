"""The replies, as the OpenAPI document describes them. Routes write them as plain JSON; the tests hold them to this."""

from typing import Any

from ninja import Schema
from pydantic import Field


class TaskError(Schema):
    message: str
    type: str
    param: str | None = None
    code: str
    details: dict[str, Any] | None = None


class Failure(Schema):
    """Of the createTask family: `code` is the HTTP status."""

    code: int
    msg: str
    message: str
    data: None = None
    error: TaskError


class OpenAIFailure(Schema):
    error: TaskError


class Created(Schema):
    taskId: str


class CreatedReply(Schema):
    code: int = Field(200, examples=[200])
    msg: str = "success"
    data: Created


class Record(Schema):
    """Times are Unix milliseconds; `param` and `resultJson` are JSON in a string."""

    taskId: str
    model: str
    state: str = Field(description="waiting, queuing, generating, success or fail.")
    param: str = Field(description="The body of the call.")
    resultJson: str = Field(description='On success {"resultUrls": ["https://..."]}, otherwise "".')
    failCode: str
    failMsg: str
    costTime: int | None
    completeTime: int | None
    createTime: int
    updateTime: int
    progress: int
    creditsCharged: float


class RecordReply(Schema):
    code: int = Field(200, examples=[200])
    msg: str = "success"
    data: Record


class Records(Schema):
    items: list[Record]
    nextCursor: str | None


class RecordsReply(Schema):
    code: int = Field(200, examples=[200])
    msg: str = "success"
    data: Records


class Image(Schema):
    url: str | None = None
    b64_json: str | None = None


class ImagesReply(Schema):
    created: int = Field(description="Unix seconds.")
    data: list[Image]
    size: str
    output_format: str
