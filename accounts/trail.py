"""The trail of what staff did: who, what, to what, and why. Rows are only ever added; the database refuses the rest."""

import getpass
import unicodedata
from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model, QuerySet

from accounts.models import User

__all__ = ["ADDITION", "CHANGE", "DELETION"]

CONSOLE = "console@operator.invalid"
ERASED = "erased"  # the one value that the name of a logged object may be changed to
REASON = "reason"
MOST_REASON = 200  # characters
_BLANK = "\u115f\u1160\u2800\u3164\uffa0"  # letters and a symbol that nobody sees
MOST_SHOWN = 200  # characters of a value


def log(by: User, row: Model, message: str, flag: int = CHANGE) -> None:
    log_many(by, [(row, message)], flag)


def log_many(by: User, deeds: Iterable[tuple[Model, str]], flag: int = CHANGE) -> None:
    """One entry a row, in one statement; call it in the transaction of the deeds."""
    LogEntry.objects.bulk_create(
        LogEntry(
            user=by,
            content_type=ContentType.objects.get_for_model(row, for_concrete_model=False),
            object_id=str(row.pk),
            object_repr=str(row)[:200],
            action_flag=flag,
            change_message=message,
        )
        for row, message in deeds
    )


def console() -> User:
    """Whoever has a shell on the server: an account that nobody can log in to, so that commands have a who."""
    user, is_new = User.objects.get_or_create(
        canonical_email=CONSOLE,
        defaults={"email": CONSOLE, "is_active": False, "name": "The server's console"},
    )
    if is_new:
        user.set_unusable_password()
        user.save(update_fields=["password"])
    return user


def at_console(command: str) -> str:
    """How an entry of a command begins."""
    try:
        return f"manage.py {command}, by {getpass.getuser()} on the server"
    except (KeyError, OSError):  # a container without a name for its user
        return f"manage.py {command}, on the server"


def forget(user: User) -> int:
    """Takes a person's address out of what was logged about them. What was done, when, by whom and why stays."""
    about = LogEntry.objects.filter(
        content_type=ContentType.objects.get_for_model(User), object_id=str(user.pk)
    )
    return about.update(object_repr=ERASED)


def words(text: str) -> str:
    """A reason as it is kept; empty where nobody could see anything of it."""
    said = text.replace("\x00", "").strip()
    return said if any(unicodedata.category(one)[0] in "LNPS" and one not in _BLANK for one in said) else ""


# --- What a form changed, in words --------------------------------------------------------------------
def told(form: forms.BaseForm, formsets: Iterable[forms.BaseFormSet], *, added: bool) -> str:
    """Each field with its old and its new value, each row that came, changed or went; and the reason, if one was given."""
    said = ["Added"] if added else _fields(form)
    said += [line for formset in formsets for line in _rows(formset)]
    why = str(getattr(form, "cleaned_data", {}).get(REASON) or "") if REASON not in _own(form) else ""
    return ("; ".join(said) or "Saved without a change") + (f": {why}" if why else ".")


def _own(form: forms.BaseForm) -> set[str]:
    """Fields of the row itself: what is called a reason among them is no reason for the change."""
    model = getattr(getattr(form, "_meta", None), "model", None)
    return {field.name for field in model._meta.get_fields()} if model else set()


def _fields(form: forms.BaseForm) -> list[str]:
    own = _own(form)
    names = [name for name in form.changed_data if name != REASON or name in own]
    return [_changed(form, name) for name in names]


def _changed(form: forms.BaseForm, name: str) -> str:
    field = form.fields.get(name)
    if field is None or isinstance(field.widget, forms.PasswordInput):
        return f"{name} changed"  # a secret, and the trail is no place for one
    old = _value(form.get_initial_for_field(field, name))
    return f"{name}: {old} -> {_value(getattr(form, 'cleaned_data', {}).get(name))}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, QuerySet | list | tuple):
        return ", ".join(sorted(str(one) for one in value))[:MOST_SHOWN] or "none"
    return str(value)[:MOST_SHOWN] if value not in (None, "") else "empty"


def _rows(formset: Any) -> list[str]:
    what = formset.model._meta.verbose_name
    came = [f"{what} added: {row}" for row in formset.new_objects]
    went = [f"{what} removed: {row}" for row in formset.deleted_objects]
    return came + [_of_row(formset, row) for row, _ in formset.changed_objects] + went


def _of_row(formset: Any, row: Model) -> str:
    form: Any = next(form for form in formset.initial_forms if form.instance == row)
    return f"{formset.model._meta.verbose_name} {row}: {', '.join(_fields(form))}"


# --- Finding entries: each by an index, and no deeper than anybody pages --------------------------------
def newest_by_or_about(user: User, most: int) -> list[int]:
    """Ids of the newest entries of what this person did and of what was done to them."""
    kind = ContentType.objects.get_for_model(User)
    about = LogEntry.objects.filter(content_type=kind, object_id=str(user.pk))
    return [*_newest(LogEntry.objects.filter(user=user), most), *_newest(about, most)]


def newest_named(words: str, most: int) -> list[int]:
    """Ids of the newest entries about the object of that id or exact name."""
    by_id, by_name = LogEntry.objects.filter(object_id=words), LogEntry.objects.filter(object_repr=words)
    return [*_newest(by_id, most), *_newest(by_name, most)]


def _newest(rows: QuerySet[LogEntry], most: int) -> QuerySet[LogEntry, int]:
    return rows.order_by("-id").values_list("pk", flat=True)[:most]
