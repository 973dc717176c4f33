"""The lines of the TOML file: our WhatsApp numbers, and who answers there."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from router.config import values
from router.config.parts import MESSAGES_PER_S, Line
from router.config.table import TEXT, Table, tables, text
from router.config.table import written as number
from router.config.values import Reader

# As the code writes them; a dialect has other words for them in the tables.
LINE_AREAS = ("PSI Principal", "Administración", "Alumnos", "Ventas", "Comunidad")
OF_A_LINE = frozenset(
    {"name", "phone_number_id", "menu", "menu_as", "area", "messages_per_s"}
)


def lines(reader: Reader, found: Any) -> tuple[Line, ...]:
    """Return the lines in *found*; without any, PSI's main one."""
    if found == []:
        found = [{"name": "wsp4"}]
    read = [
        (_line(name, table, is_first=not n), table)
        for n, (name, table) in enumerate(tables(reader, "lines", found))
    ]
    for n, (line, table) in enumerate(read):
        _check_number(line, [other for other, _ in read[:n]], table)
    return tuple(line for line, _ in read)


def _line(name: str, table: Table, *, is_first: bool) -> Line:
    common = table.reader.text("CLOUD_API_PHONE_NUMBER_ID") if is_first else ""
    area = table.parsed("area", "", _area, f"one of {', '.join(LINE_AREAS)}")
    form = table.parsed("menu_as", "text", _form, "text or list")
    pace = number(values.pace)
    table.only(OF_A_LINE)
    return Line(
        name=name,
        phone_number_id=table.parsed("phone_number_id", common, _phone_number_id, TEXT)
        or None,
        menu=_menu(table),
        as_list=form == "list",
        area=area or None,
        messages_per_s=table.parsed(
            "messages_per_s", MESSAGES_PER_S, pace, "1 to 1000"
        ),
    )


def _phone_number_id(value: Any) -> str:
    # Meta's ids are digits, so some will write one as a number.
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_number else text(value).strip()


def _form(value: Any) -> str:
    return values.one_of("text", "list")(text(value))


def _area(value: Any) -> str:
    if value not in ("", *LINE_AREAS):
        raise ValueError(value)
    return str(value)


def _menu(table: Table) -> str | None:
    # An area's own line has people, so no menu unless it asks for one.
    default = "" if table.found.get("area") else Line.PACKAGED
    named = table.found.get("menu", default)
    if named is False or named == "":
        return None
    if named == Line.PACKAGED:
        return Line.PACKAGED
    if not isinstance(named, str):
        table.problem(f"menu is {named!r}, expected psi, a file, or nothing")
        return None
    try:
        return Path(named).read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:
        table.problem(f"menu: {exc}")
        return None


def _check_number(line: Line, before: Sequence[Line], table: Table) -> None:
    """Complain of a *line* that no message can come in by: one *before* takes them all."""
    if line.phone_number_id not in {other.phone_number_id for other in before}:
        return
    if line.phone_number_id is None:
        table.problem("there are two lines without a phone_number_id")
    else:
        table.problem(f"there are two lines of the number {line.phone_number_id}")
