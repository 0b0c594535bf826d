"""What failed in the queue, to be read. The queue's own page would run a task once more without a trace."""

from django.contrib import admin
from django_q import admin as queue_admin
from django_q.models import Failure

from accounts import desk

__all__ = ["queue_admin"]

admin.site.unregister([Failure])


@admin.register(Failure)
class FailureDesk(desk.ReadOnly):
    list_display = ["name", "func", "started", "stopped", "short_result"]
    fields = ["name", "func", "started", "stopped", "result"]
    ordering = ["-started"]

    @admin.display(description="what it said")
    def short_result(self, failure: Failure) -> str:
        return str(failure.result or "")[:200]
