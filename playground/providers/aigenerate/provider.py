"""The client of AI Generate and of every host of its shape.

A seed is not sent: this API documents none.
"""

import asyncio
from collections.abc import Mapping
from typing import Literal

from playground.net import Client
from playground.providers.aigenerate.answers import (
    NOT_STARTED,
    OVER,
    UNKNOWN_TASK,
    Answer,
    answer_of,
    refusal,
)
from playground.providers.aigenerate.endpoints import (
    ENDPOINTS,
    JOBS,
    KONTEXT,
    Endpoint,
    endpoint_for,
    failed,
)
from playground.providers.aigenerate.inputs import Uploads, own_address
from playground.providers.base import Input, Order, OutcomeUnknown, Rejected, Report, Started, TryLater
from playground.providers.line import Line, credits_left, micros, opened

CREATE_S, UPLOADS_S, LOOK_S = 30, 60, 15
# X-AI-Credits-Charged is a header of aimarcusimage.eu alone, where a credit is worth this much.
CREDIT_MICROS = 7_000


class AIGenerate:
    resend_is_safe = False
    longest_create_s: float = UPLOADS_S + CREATE_S
    most_at_once: Mapping[str, int] = {}

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        name: str = "aigenerate",
        upload_url: str = "",
        inputs_by: Literal["upload", "base64", "url"] = "upload",
        result_hosts: tuple[str, ...] = (),
    ) -> None:
        if inputs_by == "base64":
            raise ValueError(f"{name} takes input pictures by upload or by url, not as base64.")
        self.name = name
        self.inputs_by: Literal["upload", "base64", "url"] = inputs_by
        self.result_hosts = tuple(result_hosts)
        headers = {"Authorization": f"Bearer {api_key}"}
        self._line = Line(name=name, base_url=base_url, api_key=api_key, headers=headers)
        self._uploads = Uploads(self._line, url=upload_url)

    async def create(self, http: Client, order: Order) -> Started:
        endpoint = endpoint_for(order)
        urls = await self._addresses(http, order.inputs)
        body = endpoint.body(order, urls)
        reply = await self._line.ask(http, "POST", endpoint.create, within_s=CREATE_S, json=body)
        answer = answer_of(reply, self._line)
        if answer.verdict in NOT_STARTED:
            raise TryLater(answer.detail, retry_after_s=answer.retry_after_s, is_well=True)
        if failure := refusal(answer):
            raise Rejected(failure, answer.detail)
        if task_id := answer.task_id:
            cost = micros(answer.headers.get("X-AI-Credits-Charged"), micros_each=CREDIT_MICROS)
            return Started(upstream_id=task_id, memo=endpoint.name, cost_micros=cost)
        raise OutcomeUnknown(answer.detail)

    async def look(self, http: Client, upstream_id: str, memo: str = "") -> Report:
        endpoint, answer = await self._record(http, upstream_id, memo)
        if answer.code in OVER:
            return failed(answer.msg, answer.detail)
        if answer.verdict != 200:
            is_not_yet = answer.verdict in (404, 422)  # said for some seconds after a create
            raise TryLater(answer.detail, retry_after_s=answer.retry_after_s, is_well=is_not_yet)
        return endpoint.report(self.name, answer.data, self._line.clean)

    async def is_ours(self, http: Client, upstream_id: str, callback_url: str) -> bool:
        endpoint, answer = await self._record(http, upstream_id, "")
        if answer.verdict != 200 or not answer.data:
            raise TryLater(answer.detail, retry_after_s=answer.retry_after_s)
        asked = opened(answer.data.get(endpoint.asked))
        return bool(callback_url) and asked.get("callBackUrl") == callback_url

    async def draw(self, url: str) -> bytes | None:
        return None

    async def balance(self, http: Client) -> str:
        answer = answer_of(await self._line.read(http, "/chat/credit", within_s=LOOK_S), self._line)
        left = credits_left(answer.envelope.get("data"))
        if answer.verdict != 200 or not left:
            raise TryLater(answer.detail, retry_after_s=answer.retry_after_s)
        return left

    async def _record(self, http: Client, upstream_id: str, memo: str) -> tuple[Endpoint, Answer]:
        """What the endpoint that took the task knows of it; without a memo, as after a lost answer, each is asked."""
        known = ENDPOINTS.get(memo)
        endpoint = known or JOBS
        answer = await self._looked(http, endpoint, upstream_id)
        if known is None and (answer.verdict in UNKNOWN_TASK or (answer.verdict == 200 and not answer.data)):
            second = await self._looked(http, KONTEXT, upstream_id)
            if second.verdict == 200 and second.data:
                return KONTEXT, second
        return endpoint, answer

    async def _looked(self, http: Client, endpoint: Endpoint, upstream_id: str) -> Answer:
        query = {"taskId": upstream_id}
        return answer_of(
            await self._line.read(http, endpoint.look, within_s=LOOK_S, params=query), self._line
        )

    async def _addresses(self, http: Client, pictures: tuple[Input, ...]) -> list[str]:
        """Where the host finds the input pictures. Nothing that costs has been sent when this fails."""
        if self.inputs_by == "url":
            return [own_address(picture) for picture in pictures]
        try:
            async with asyncio.timeout(UPLOADS_S):
                return [
                    await self._uploads.address(http, picture, within_s=UPLOADS_S) for picture in pictures
                ]
        except TimeoutError:
            raise TryLater("The upload of the input pictures took too long.", is_about_job=True) from None
