"""The bodies that calls send. What a client leaves out gets its default.

A name that a call does not have is refused, unless it is one of those at the end: known clients send them, and here
they change nothing.
"""

import json
import re
from typing import Annotated, Any, Literal

from ninja import Schema
from pydantic import AfterValidator, AliasChoices, BeforeValidator, ConfigDict, Field, field_validator

from playground import orders
from playground.api import written

# What a call says is kept with its tasks and told in each of their records.
MOST_UNUSED = 4096
MOST_WORD = 100  # of what is one of a few words, or a number


def _listed(value: Any) -> Any:
    """One address where a list is meant; "" and null are none."""
    if value in (None, ""):
        return []
    return [value] if isinstance(value, str) else value


def _text(value: Any) -> Any:
    return "" if value is None else value


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("it is a whole number, not true or false")
    if isinstance(value, str) and len(value) > MOST_WORD:
        raise ValueError("it is a whole number")
    return value


Whole = Annotated[int | None, BeforeValidator(_number)]


def _one(value: Any) -> Any:
    return 1 if value in (None, "") else _number(value)


def _none(nothing: bool | int, why: str) -> Any:
    """What is not done here: only a "no" is taken, in a multipart part as text. `why` ends the refusal of a "yes"."""

    def read(value: Any) -> Any:
        if value in (None, "", False, "false", "False", "0"):
            return nothing
        raise ValueError(why)

    return read


def _short(value: Any) -> Any:
    if len(json.dumps(value)) > MOST_UNUSED:
        raise ValueError(f"it may have {MOST_UNUSED:,} characters, as it is written in JSON")
    return value


Unused = Annotated[Any, AfterValidator(_short)]


def _nothing(value: Any) -> Any:
    if value not in (None, ""):
        raise ValueError("watermarks are not supported: leave it out, or empty")
    return value


def _background(value: Any) -> Any:
    if value == "transparent":
        raise ValueError("these models make no transparent pictures; it is auto or opaque")
    return _text(value)


class TaskInput(Schema):
    """What the picture is to be."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(
        description="What to show, or what to change: 3 to 5,000 characters.",
        examples=["A red fox in the snow"],
    )
    aspect_ratio: Annotated[str, BeforeValidator(_text)] = Field(
        "",
        max_length=MOST_WORD,
        description="1:1, 4:3, 3:4, 16:9, 9:16, 3:2, 2:3 or 21:9, as the model makes them; `auto` is the shape of the first input picture.",
        validation_alias=AliasChoices("aspect_ratio", "aspectRatio", "image_size"),
        examples=["16:9"],
    )
    resolution: Annotated[str, BeforeValidator(_text)] = Field(
        "", max_length=MOST_WORD, description="1K or 2K, for a model name that has both; the usual is 1K."
    )
    input_urls: Annotated[list[str], BeforeValidator(_listed)] = Field(
        [],
        description="Up to 8 input pictures: public addresses, data: URLs, or addresses from our own uploads and results.",
        validation_alias=AliasChoices(
            "input_urls", "image_urls", "image_input", "inputUrls", "image_url", "inputImage"
        ),
    )
    seed: Whole = Field(
        None, description="0 to 4,294,967,295; the same seed gives a like picture where the model takes one."
    )
    output_format: Annotated[str, BeforeValidator(_text)] = Field(
        "",
        max_length=MOST_WORD,
        description="png, jpeg or webp for the result's address; the model's own where it is left out.",
        validation_alias=AliasChoices("output_format", "outputFormat"),
    )
    # Known clients send these, and here they change nothing.
    nsfw_checker: Unused = Field(None, description="Taken and not used: the model's own filter is always on.")
    prompt_upsampling: Unused = Field(
        None,
        description="Taken and not used.",
        validation_alias=AliasChoices("prompt_upsampling", "promptUpsampling"),
    )
    safety_tolerance: Unused = Field(
        None,
        description="Taken and not used.",
        validation_alias=AliasChoices("safety_tolerance", "safetyTolerance"),
    )
    enable_translation: Unused = Field(
        None,
        description="Taken and not used.",
        validation_alias=AliasChoices("enable_translation", "enableTranslation"),
    )
    upload_cn: Unused = Field(
        None, description="Taken and not used.", validation_alias=AliasChoices("upload_cn", "uploadCn")
    )
    watermark: Annotated[Any, BeforeValidator(_nothing)] = Field(
        None, description="Not supported: leave it out, or empty."
    )


def from_json(value: Any) -> Any:
    """Some clients send the object as text."""
    if isinstance(value, str):
        try:
            return written.read(value, "input", depth=1)
        except ValueError:
            return value
    return value


class CreateTask(Schema):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"model": "flux-2/pro-text-to-image", "input": {"prompt": "A red fox in the snow"}}]
        },
    )

    model: str = Field(description="A name from GET /api/v1/models, or kie.ai's name for the same model.")
    input: Annotated[TaskInput, BeforeValidator(from_json)]
    call_back_url: Annotated[str, BeforeValidator(_text)] = Field(
        "",
        description="A public https address that is told of the end.",
        validation_alias=AliasChoices("callBackUrl", "callbackUrl", "callback_url"),
    )
    task_id: Annotated[str, BeforeValidator(_text)] = Field(
        "",
        max_length=255,
        description="Your own id of this call: it works as an Idempotency-Key. Our id of the task is another one.",
        validation_alias=AliasChoices("taskId", "task_id"),
    )
    progress_call_back_url: Unused = Field(
        None, description="Taken and not used.", alias="progressCallBackUrl"
    )
    metadata: Unused = Field(None, description="Taken and not used.")


_SIZE = re.compile(r"([1-9]\d{1,4})x([1-9]\d{1,4})")
_NOT_STREAMED = "nothing is streamed here; leave it out, and the call answers when the pictures are there"
_FORMATS = {"": "", "jpg": "jpeg", "jpeg": "jpeg", "png": "png", "webp": "webp"}


class ImageBody(Schema):
    """What both of OpenAI's image routes take, and our own parameters beside, as `extra_body` sends them."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(
        description="What to show: 3 to 5,000 characters.", examples=["A red fox in the snow"]
    )
    model: Annotated[str, BeforeValidator(_text)] = Field("", description="A name from GET /v1/models.")
    n: Annotated[int, BeforeValidator(_one)] = Field(
        1, ge=1, le=orders.MAX_COUNT_OF_CALL, description="How many pictures; each is a task with its price."
    )
    size: Annotated[str, BeforeValidator(_text)] = Field(
        "",
        description="1024x1024 or any other: the model's nearest shape is made. `auto`: the usual.",
        examples=["1024x1024"],
    )
    response_format: Annotated[Literal["", "url", "b64_json"], BeforeValidator(_text)] = Field(
        "", description="url or b64_json; both where it is left out, for clients of either."
    )
    output_format: Annotated[str, BeforeValidator(_text)] = Field(
        "", max_length=MOST_WORD, description="png, jpeg or webp."
    )
    background: Annotated[Literal["", "auto", "opaque"], BeforeValidator(_background)] = Field(
        "", description="These models make no transparent pictures."
    )
    stream: Annotated[Literal[False], BeforeValidator(_none(False, _NOT_STREAMED))] = Field(
        False, description="Not supported."
    )
    partial_images: Annotated[Literal[0], BeforeValidator(_none(0, _NOT_STREAMED))] = Field(
        0, description="Not supported."
    )
    aspect_ratio: Annotated[str, BeforeValidator(_text)] = Field(
        "", max_length=MOST_WORD, description="Instead of `size`: 16:9 and so on."
    )
    resolution: Annotated[str, BeforeValidator(_text)] = Field(
        "", max_length=MOST_WORD, description="1K or 2K, for a name that has both."
    )
    seed: Whole = Field(None, description="0 to 4,294,967,295.")
    call_back_url: Annotated[str, BeforeValidator(_text)] = Field(
        "", alias="callBackUrl", description="A public https address that is told of the end, too."
    )
    # OpenAI's own that change nothing here.
    quality: Unused = Field(None, description="Taken and not used.")
    style: Unused = Field(None, description="Taken and not used.")
    user: Unused = Field(None, description="Taken and not used.")
    moderation: Unused = Field(None, description="Taken and not used: the model's own filter is always on.")
    output_compression: Unused = Field(None, description="Taken and not used.")
    nsfw_checker: Unused = Field(None, description="Taken and not used.")

    @field_validator("size")
    @classmethod
    def _is_size(cls, value: str) -> str:
        size = value.strip().lower().replace("*", "x").replace("×", "x")
        if size not in ("", "auto") and not _SIZE.fullmatch(size):
            raise ValueError("a size is width x height in pixels, such as 1024x1024, or auto")
        return size

    @field_validator("output_format")
    @classmethod
    def _is_format(cls, value: str) -> str:
        if value.lower() not in _FORMATS:
            raise ValueError("it is png, jpeg or webp")
        return _FORMATS[value.lower()]

    @property
    def pixels(self) -> tuple[int, int] | None:
        found = _SIZE.fullmatch(self.size)
        return (int(found[1]), int(found[2])) if found else None


class ImageGeneration(ImageBody):
    input_urls: Annotated[list[str], BeforeValidator(_listed)] = Field(
        [],
        description="Up to 8 input pictures, as for createTask.",
        validation_alias=AliasChoices("input_urls", "image_urls"),
    )


class ImageEdit(ImageBody):
    """The fields beside the files of a multipart body; all are text there."""

    input_fidelity: Unused = Field(None, description="Taken and not used.")

    @classmethod
    def request_body(cls) -> dict[str, Any]:
        """For the OpenAPI document."""
        file = {"type": "string", "format": "binary"}
        schema = cls.model_json_schema()
        schema["properties"] |= {
            "image": {**file, "description": "The picture."},
            "image[]": {"type": "array", "items": file, "maxItems": 8, "description": "Several of them."},
        }
        schema["anyOf"] = [{"required": ["image"]}, {"required": ["image[]"]}]
        return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
