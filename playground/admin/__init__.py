"""The operator's desk for what is made: the catalogue, upstreams, jobs, shared links, and the switch that stops them all."""

from django.contrib import admin
from django_q import admin as queue_admin
from django_q.models import OrmQ, Schedule, Success

from playground.admin import catalogue, failures, front, person, reports, sharing, upstreams, work

__all__ = ["catalogue", "failures", "person", "queue_admin", "reports", "sharing", "upstreams", "work"]

# The job table is the truth. The queue's own pages would let somebody run any function by name, or change a schedule
# that the code owns; what failed in it stays to be read. Its pages are registered by the import above.
admin.site.unregister([OrmQ, Schedule, Success])
admin.site.index = front.index  # type: ignore[method-assign,assignment]
