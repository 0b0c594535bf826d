"""The site under WSGI, without the secrets of the process in every request.

Web servers put their whole environment variables beside a request's own words, and so keys of upstreams and of the
payment company into `request.META`. From there they go wherever a request is written down: allauth keeps one that waits for a
password in the session, which is a row of the database.
"""

import os
from collections.abc import Callable
from typing import Any

from django.core.wsgi import get_wsgi_application

# Of the request or of the server, by PEP 3333 and RFC 3875. `HTTP_` and `wsgi.` are taken as well.
_OWN = {
    "CONTENT_LENGTH", "CONTENT_TYPE", "GATEWAY_INTERFACE", "PATH_INFO", "QUERY_STRING", "REMOTE_ADDR", "REMOTE_PORT",
    "REQUEST_METHOD", "SCRIPT_NAME", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "SERVER_SOFTWARE",
}  # fmt: skip

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "playground.settings")
_site = get_wsgi_application()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
    return _site({name: said for name, said in environ.items() if _is_own(name, said)}, start_response)


def _is_own(name: str, said: object) -> bool:
    """HTTP_PROXY may be a header of the request, or a variable of ours with a password in it."""
    if name.startswith(("HTTP_", "wsgi.")):
        return os.environ.get(name) != said
    return name in _OWN
