"""Calls the API as a program does: a key, JSON, no cookies."""

from typing import Any

from django.test import Client

from accounts import keys
from accounts.models import ApiKey, User


class Api:
    """A caller with a key; `get` and `post` return Django's response, with `.json()`."""

    def __init__(self, user: User, *, is_test: bool = False, text: str = "") -> None:
        self.key: ApiKey | None = None
        if not text:
            self.key, text = keys.make(user, "for a test", is_test=is_test)
        self.text = text
        self.client = Client(raise_request_exception=False)

    def headers(self, more: dict[str, str]) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.text}", **more}

    def get(self, path: str, query: dict[str, Any] | None = None, **headers: str) -> Any:
        return self.client.get(path, query or {}, headers=self.headers(headers))

    def post(self, path: str, body: Any, **headers: str) -> Any:
        return self.client.post(path, body, content_type="application/json", headers=self.headers(headers))

    def create(self, prompt: str = "a fox in the snow", **more: Any) -> Any:
        """createTask for the cheapest variant; `headers` are sent as such."""
        headers = more.pop("headers", {})
        body = {"model": "flux-2/pro-text-to-image", "input": {"prompt": prompt}} | more
        return self.client.post(
            "/api/v1/jobs/createTask", body, content_type="application/json", headers=self.headers(headers)
        )
