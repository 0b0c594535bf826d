"""Is this process able to answer? For `manage.py up`, load balancers and monitors."""

from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from playground import images


@require_safe
@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """200 while the database answers, 503 while it does not. A disk that is nearly full stops new jobs, not the pages."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return HttpResponse("The database does not answer.\n", status=503, content_type="text/plain")
    state = "ok" if images.has_space() else "ok, but the disk is nearly full: new jobs are refused"
    return HttpResponse(f"{state}\n", content_type="text/plain")
