"""An upstream that repeats our key in whatever it says: in errors, in states, in headers, in addresses it leads to."""

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

REFUSALS = [401, 422, 500, 402, 400, 403, 404, 429, 503]


class Parrot:
    """Speaks the createTask shape, Black Forest Labs' and OpenAI's, each as well as it must to be listened to."""

    def __init__(self) -> None:
        self.heard: set[str] = set()
        self.turns: Counter[str] = Counter()
        parrot = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self._answer()

            def _answer(self) -> None:
                key = (self.headers.get("Authorization") or self.headers.get("x-key") or "").split(" ")[-1]
                parrot.heard.add(key)
                status, said = parrot.say(self.path.partition("?")[0], key)
                body = json.dumps(said).encode()
                self.send_response(status, f"No {key}")
                self.send_header("X-Your-Key", key)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *words: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.host}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def say(self, path: str, key: str) -> tuple[int, Any]:
        self.turns[path] += 1
        turn = self.turns[path]
        words = f"The key {key} is not welcome"
        error = {
            "code": 401,
            "msg": words,
            "detail": [{"loc": ["header", key], "msg": words}],
            "message": words,
        }
        error |= {"error": {"message": words, "code": key, "type": key}, "data": {"failMsg": words}}
        is_look = path.endswith(("recordInfo", "record-info", "get_result"))
        if is_look:
            return self._look(turn, key, words, error)
        if turn % 2 and path.endswith(("createTask", "generate")):
            return 200, {"code": 200, "msg": words, "data": {"taskId": f"task-{turn}"}}
        if turn % 2 and "/v1/flux" in path:
            return 200, {"id": f"task-{turn}", "polling_url": f"{self.url}/v1/get_result?id=task-{turn}"}
        status = REFUSALS[turn // 2 % len(REFUSALS)]
        return status, error | {"code": status}

    def _look(self, turn: int, key: str, words: str, error: dict[str, Any]) -> tuple[int, Any]:
        """Nothing to be learnt, then a state that nobody knows, then a failure."""
        if turn % 3 == 1:
            return 500, error
        state = {"state": key, "status": key} if turn % 3 == 2 else {"state": "fail", "status": "Error"}
        told = {"failMsg": words, "failCode": key, "details": {"reason": words}, "errorMessage": words}
        return 200, {"code": 200, "msg": words, **state, **told, "data": {**state, **told}}
