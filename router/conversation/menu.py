"""A menu: lists of options, each of which opens a list or hands over to an area."""

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Self

from router.conversation.tables import INHERITED, Tables, Texts
from router.conversation.words import plain
from router.errors import ConfigError

PRINCIPAL = "principal"  # the list where everybody starts
AREAS = frozenset({"Administración", "Alumnos", "Ventas", "Comunidad"})


class MenuError(ConfigError):
    """The file describes no menu that can be used: all that is wrong is in `problems`."""

    def __init__(self, problems: Iterable[str]) -> None:
        """Say all *problems*, one a line."""
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One row. It opens the list that has its code, or else hands over to `area`.

    `wait` says how long an answer takes, in words. `confirmation` has one `{ticket}`.
    """

    code: str
    title: str
    description: str = ""
    area: str = ""  # '' where it opens a list
    subetiqueta: str = ""
    wait: str = ""
    confirmation: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Page:
    """One list: `text` stands above its options. `title` is that of the row that opens it.

    `person` is the code of the option that hands over to somebody; '' where none is for that.
    """

    code: str
    text: str
    options: tuple[Option, ...] = ()
    title: str = ""
    parent: str = PRINCIPAL
    person: str = ""

    @functools.cached_property
    def titled(self) -> Mapping[str, Option]:
        """The options by what may be typed for them: the title, or the row as shown."""
        shown = {
            plain(f"{option.code} {option.title}"): option for option in self.options
        }
        titles = {plain(option.title): option for option in self.options}
        titles.pop("", None)
        return shown | titles


@dataclass(frozen=True, kw_only=True, eq=False)
class Menu:
    """All lists by their codes, and the words around them."""

    pages: Mapping[str, Page]
    button: str  # opens an interactive list
    prompt: str  # how to choose
    leave: str  # how to get out of a list that is not the first
    back: str  # the row that does so
    hint: str  # what is said to what was not understood
    meant: str = ""  # asks whether {code}, {title} was meant; '' says the hint instead

    @classmethod
    def load(cls, text: str) -> Self:
        """Read the TOML *text*, or raise one `MenuError` with all that is wrong with it.

        Only its form is looked at; `check.problems` tells whether it can be used.
        """
        tables = Tables(text)
        if PRINCIPAL not in tables.menus:
            tables.problems.append(f"the file: there is no menu {PRINCIPAL}")
        if tables.problems:
            raise MenuError(tables.problems)
        template = tables.texts["confirmation"]
        words = {
            name: text for name, text in tables.texts.items() if name != "confirmation"
        }
        return cls(pages=_pages(tables.menus, template), **words)

    @property
    def main(self) -> Page:
        """The list where everybody starts."""
        return self.pages[PRINCIPAL]

    @functools.cached_property
    def coded(self) -> Mapping[str, Option]:
        """Every option by its code; the first of two that share one."""
        found: dict[str, Option] = {}
        for option in self.options():
            found.setdefault(option.code, option)
        return found

    @functools.cached_property
    def titled(self) -> Mapping[str, Option]:
        """The options whose title is no other one's."""
        titles = [plain(option.title) for option in self.options()]
        return {
            title: option
            for title, option in zip(titles, self.options(), strict=True)
            if title and titles.count(title) == 1
        }

    def options(self) -> Iterator[Option]:
        """Yield every option of every list."""
        return (option for page in self.pages.values() for option in page.options)

    def page(self, router_estado: str | None) -> Page:
        """Return the list that a person is in; the first one where the word names none.

        The CRM's older routers wrote ``submenu_2`` and ``menu_principal``.
        """
        code = (router_estado or "").removeprefix("submenu_")
        return self.pages.get(code) or self.main

    def page_with(self, option: Option) -> Page:
        """Return the list that *option* stands in."""
        return next(page for page in self.pages.values() if option in page.options)

    def person(self, page: Page) -> Option | None:
        """Return the option by which one reaches a person from *page*: its own, or the main's."""
        return self.coded.get(page.person or self.main.person)

    def opened_by(self, option: Option) -> Page | None:
        """Return the list that *option* opens; None where it hands over."""
        return self.pages.get(option.code)


@functools.cache
def packaged() -> Menu:
    """Return PSI's own menu."""
    file = resources.files("router.conversation") / "psi.toml"
    return Menu.load(file.read_text("utf-8"))


def _pages(
    menus: Mapping[str, tuple[Texts, list[Texts]]], template: str
) -> dict[str, Page]:
    openers: dict[str, tuple[str, str]] = {}  # the list it stands in, its title
    for code, (_, entries) in menus.items():
        for entry in entries:
            openers.setdefault(entry["code"], (code, entry["title"]))
    pages = {}
    for code, (texts, entries) in menus.items():
        parent, title = openers.get(code, (PRINCIPAL, ""))
        pages[code] = Page(
            code=code,
            text=texts["text"],
            title=title,
            parent=parent,
            person=texts.get("person", ""),
            options=tuple(
                _option(entry, {} if entry["code"] in menus else texts, template)
                for entry in entries
            ),
        )
    return pages


def _option(entry: Texts, menu: Texts, template: str) -> Option:
    known = {name: menu[name] for name in INHERITED if name in menu} | dict(entry)
    name = known.pop("name", known.get("area", ""))
    words = {"name": name, "option": known["title"], "wait": known.get("wait", "")}
    said = re.sub(r"\{(name|option|wait)\}", lambda place: words[place[1]], template)
    return Option(**known, confirmation=said if "area" in known else "")
