"""Statements live in `sql/*.sql`, one a file, and are asked for by name."""

import functools
from importlib import resources


@functools.cache
def sql(name: str) -> str:
    """Return the statement of `sql/<name>.sql`; FileNotFoundError for an unknown one."""
    return (resources.files("router.store") / "sql" / f"{name}.sql").read_text("utf-8")
