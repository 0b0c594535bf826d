"""Single rows, written by statements that are spelt once.

The ORM builds each statement anew, which takes ten times as long as running it: at hundreds of jobs that was a third
of the engine's time. Only for the hottest writes. Values are prepared as the ORM does it; signals, `auto_now` and
reading back an id that the database made do not happen.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.db import connection, models

_NAMED = re.compile(r"%\((\w+)\)s")
# Databases take what Python has for these as it is; asking the field each time was a tenth of a call's time.
_PLAIN = (
    "BigAutoField",
    "BigIntegerField",
    "BooleanField",
    "CharField",
    "PositiveSmallIntegerField",
    "TextField",
)
Statement = tuple[str, Sequence[Any] | dict[str, Any]]


@dataclass(frozen=True)
class Result:
    """What one statement of several changed or gave."""

    count: int
    rows: list[tuple[Any, ...]]


def together(statements: Sequence[Statement]) -> list[Result]:
    """Runs them one after another, and on PostgreSQL in one round trip: for a call of the API that is half its time.

    Each is executed, whatever those before it changed; the caller looks at the results and rolls back. The first that
    fails ends it, as it does alone.
    """
    with connection.cursor() as cursor:
        if connection.vendor != "postgresql":
            return [_ran(cursor, *statement) for statement in statements]
        each = [_positional(*statement) for statement in statements]
        cursor.execute(";".join(text for text, _ in each), [value for _, values in each for value in values])
        results = [_result(cursor)]
        while cursor.nextset():
            results.append(_result(cursor))
        return results


def _positional(text: str, values: Sequence[Any] | dict[str, Any]) -> tuple[str, Sequence[Any]]:
    if not isinstance(values, dict):
        return text, values
    names, text = _names(text)
    return text, [values[name] for name in names]


@lru_cache(maxsize=50)
def _names(text: str) -> tuple[list[str], str]:
    return _NAMED.findall(text), _NAMED.sub("%s", text)


def _ran(cursor: Any, text: str, values: Sequence[Any] | dict[str, Any]) -> Result:
    cursor.execute(text, values)
    return _result(cursor)


def _result(cursor: Any) -> Result:
    return Result(cursor.rowcount, cursor.fetchall() if cursor.description else [])


def run(statement: str, **values: Any) -> int:
    """Runs one statement; returns how many rows it changed."""
    return together([(statement, values)])[0].count


def fetch(statement: str, **values: Any) -> list[tuple[Any, ...]]:
    """Runs one statement; returns the rows that it gave."""
    return together([(statement, values)])[0].rows


def insert(row: models.Model) -> None:
    """Adds the row."""
    together([inserting([row])])


def insert_all(rows: Sequence[models.Model]) -> None:
    """Adds rows of one model in one statement; those without an id get theirs."""
    if not rows:
        return
    is_without_id = rows[0].pk is None
    [added] = together([inserting(rows)])
    if is_without_id:
        take_ids(rows, added)


def inserting(rows: Sequence[models.Model]) -> Statement:
    """The statement that adds these rows of one model, and gives the ids of those that have none."""
    model, is_without_id = type(rows[0]), rows[0].pk is None
    writers = _writers(model, is_without_id=is_without_id)
    values = [write(getattr(row, name)) for row in rows for name, write in writers]
    # Empty columns stand in the text: psycopg remembers how it read a statement of at most 50 values.
    is_null = tuple(value is None for value in values)
    text = _insert(model, is_null, is_without_id=is_without_id)
    return text, [value for value in values if value is not None]


@lru_cache(maxsize=50)
def _writers(model: type[models.Model], *, is_without_id: bool) -> list[tuple[str, Callable[[Any], Any]]]:
    """The attribute of each column, and what makes the database's value of its own."""
    return [(field.attname, _writer(field)) for field in _fields(model, is_without_id=is_without_id)]


def _writer(field: Any) -> Callable[[Any], Any]:
    kind = (field.target_field if field.is_relation else field).get_internal_type()
    if kind in _PLAIN:
        return lambda value: value
    return lambda value: None if value is None else field.get_db_prep_save(value, connection)


def take_ids(rows: Sequence[models.Model], added: Result) -> None:
    for row, (pk,) in zip(rows, added.rows, strict=True):
        row.pk = pk


def change(model: type[models.Model], where: dict[str, Any], changes: dict[str, Any]) -> int:
    """Compare and set: changes the rows whose columns equal `where`; returns how many there were."""
    values = [_writer_of(model, name)(value) for name, value in (*changes.items(), *where.items())]
    with connection.cursor() as cursor:
        cursor.execute(_update(model, tuple(changes), tuple(where)), values)
        return cursor.rowcount


# --- Read ---------------------------------------------------------------------------------------------
def columns(model: type[models.Model], names: Sequence[str], alias: str) -> str:
    """These columns of a table, for a SELECT."""
    return ", ".join(f"{alias}.{_quoted(_field(model, name).column)}" for name in names)


def partly(model: type[models.Model], names: tuple[str, ...], values: Sequence[Any]) -> Any:
    """An object of which only these columns are known, from what the database gave for them.

    `names` in the order of the model. The other columns are read where they are asked for.
    """
    read = [_converted(value, readers) for value, readers in zip(values, _readers(model, names), strict=True)]
    return model.from_db("default", names, read)


def _converted(value: Any, readers: Sequence[Callable[..., Any]]) -> Any:
    for reader in readers:
        value = reader(value, None, connection)
    return value


@lru_cache(maxsize=20)
def _readers(model: type[models.Model], names: tuple[str, ...]) -> list[list[Callable[..., Any]]]:
    """What makes Python's value of a column's, as the ORM does it."""
    cols = [_field(model, name).get_col("t") for name in names]
    return [connection.ops.get_db_converters(col) + col.get_db_converters(connection) for col in cols]


# --- The statements -----------------------------------------------------------------------------------
def _field(model: type[models.Model], name: str) -> Any:
    return model._meta.get_field(name)


@lru_cache(maxsize=500)
def _writer_of(model: type[models.Model], name: str) -> Callable[[Any], Any]:
    return _writer(_field(model, name))


@lru_cache(maxsize=50)
def _fields(model: type[models.Model], *, is_without_id: bool) -> list[Any]:
    return [field for field in model._meta.concrete_fields if not (is_without_id and field.primary_key)]


@lru_cache(maxsize=200)
def _insert(model: type[models.Model], is_null: tuple[bool, ...], *, is_without_id: bool) -> str:
    """For as many rows as there are marks for, field by field."""
    columns = [_quoted(field.column) for field in _fields(model, is_without_id=is_without_id)]
    marks = ["NULL" if null else "%s" for null in is_null]
    of_rows = [marks[first : first + len(columns)] for first in range(0, len(marks), len(columns))]
    places = ", ".join(f"({', '.join(of_row)})" for of_row in of_rows)
    returning = f" RETURNING {_quoted(_pk_column(model))}" if is_without_id else ""
    return f"INSERT INTO {_quoted(model._meta.db_table)} ({', '.join(columns)}) VALUES {places}{returning}"  # noqa: S608


def _pk_column(model: type[models.Model]) -> str:
    return next(str(field.column) for field in model._meta.concrete_fields if field.primary_key)


@lru_cache(maxsize=50)
def _update(model: type[models.Model], changes: tuple[str, ...], where: tuple[str, ...]) -> str:
    sets = ", ".join(f"{_quoted(_field(model, name).column)} = %s" for name in changes)
    conditions = " AND ".join(f"{_quoted(_field(model, name).column)} = %s" for name in where)
    return f"UPDATE {_quoted(model._meta.db_table)} SET {sets} WHERE {conditions}"  # noqa: S608


def _quoted(name: str) -> str:
    return connection.ops.quote_name(name)
