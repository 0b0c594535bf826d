"""The operator's desk for people and money."""

from django.contrib import admin

from accounts.admin import books, doors, gate, people, topups, trail

__all__ = ["books", "doors", "people", "topups", "trail"]

admin.site.site_header = admin.site.site_title = "Flux Playground"
admin.site.index_title = "The operator's desk"
admin.site.login = gate.login  # type: ignore[method-assign]
admin.site.password_change = gate.password_change  # type: ignore[method-assign,assignment]
admin.site.has_permission = gate.has_permission  # type: ignore[method-assign]
