"""Times as the viewer's clock has them, always with the zone: `{{ job.created|when }}`, `When ({% zone %})`."""

from django import template

from accounts import zones

register = template.Library()
register.filter("when", lambda at: zones.when(at))
register.filter("when_s", lambda at: zones.when(at, seconds=True))
register.simple_tag(zones.name, name="zone")
