"""Whether a menu can be used: everything reached, nobody lost, WhatsApp's limits kept."""

import re
from collections import Counter
from collections.abc import Iterator

from router.conversation import limits, replies
from router.conversation.menu import AREAS, PRINCIPAL, Menu, MenuError, Option, Page
from router.conversation.words import Intent, hear, plain

_CODE = re.compile(r"[1-9][0-9]?", re.ASCII)
# What a title may be heard as: it comes before these.
_NAMES = {Intent.OTHER, Intent.PERSON, Intent.YES, Intent.NO}


def checked(text: str) -> Menu:
    """Return the menu of a file's *text*, or raise one `MenuError` with all its problems."""
    menu = Menu.load(text)
    if found := problems(menu):
        raise MenuError(found)
    return menu


def problems(menu: Menu) -> list[str]:
    """Return all that is wrong with *menu*, in words; nothing where it can be used."""
    reached = _reached(menu)
    found = list(_words(menu))
    found += [
        f"menu {code!a}: no option opens it"
        for code in menu.pages
        if code not in reached
    ]
    found += [
        f"option {code!a}: there are {count} options with this code"
        for code, count in Counter(option.code for option in menu.options()).items()
        if count > 1
    ]
    for page in menu.pages.values():
        found += _page(menu, page)
    return found


def _reached(menu: Menu) -> set[str]:
    reached: set[str] = set()
    waiting = [PRINCIPAL]
    while waiting:
        code = waiting.pop()
        reached.add(code)
        codes = {option.code for option in menu.pages[code].options}
        waiting += codes & menu.pages.keys() - reached
    return reached


def _words(menu: Menu) -> Iterator[str]:
    for name in ("prompt", "leave", "hint"):
        yield from _length(f"the file: {name}", getattr(menu, name), limits.BODY)
    yield from _length("the file: button", menu.button, limits.BUTTON)
    yield from _length("the file: back", menu.back, limits.ROW_TITLE)


def _length(what: str, text: str, most: int) -> Iterator[str]:
    if not text:
        yield f"{what} is empty"
    elif (size := limits.size(text)) > most:
        yield f"{what} has {size} characters, at most {most}"


def _page(menu: Menu, page: Page) -> Iterator[str]:
    where = f"menu {page.code!a}"
    yield from _length(f"{where}: text", page.text, limits.BODY)
    if limits.size(page.title) > limits.SECTION_TITLE:  # it may head its rows
        yield from _length(f"{where}: title", page.title, limits.SECTION_TITLE)
    hints = [replies.hint(menu, page.code, option) for option in (None, *page.options)]
    for said in dict.fromkeys((replies.page_reply(menu, page), *hints)):
        yield from _length(f"{where}: the whole", said.text, limits.TEXT)
    yield from _rows(menu, page)
    yield from _person(menu, page)
    titles = Counter(plain(option.title) for option in page.options)
    for option in page.options:
        if titles[plain(option.title)] > 1:
            yield f"option {option.code!a}: another one of menu {page.code!a} has its title"
        yield from _option(menu, option)


def _rows(menu: Menu, page: Page) -> Iterator[str]:
    where, rows = f"menu {page.code!a}", len(page.options)
    if not rows:
        yield f"{where}: it has no options"
        return
    if rows > limits.ROWS:
        yield f"{where}: it has {rows} options, at most {limits.ROWS}"
    derives = any(option.code not in menu.pages for option in page.options)
    if page is not menu.main and not derives:
        yield f"{where}: none of its options leads to a person"


def _person(menu: Menu, page: Page) -> Iterator[str]:
    handing = {option.code for option in page.options} - menu.pages.keys()
    if page.person and page.person not in handing:
        yield (
            f"menu {page.code!a}: person {page.person!a} is none of its options"
            " that hand over"
        )


def _option(menu: Menu, option: Option) -> Iterator[str]:
    where = f"option {option.code!a}"
    if not _CODE.fullmatch(option.code):
        yield f"{where}: a code has one or two digits, and no 0 in front"
    yield from _length(f"{where}: title", option.title, limits.ROW_TITLE)
    if limits.size(option.description) > limits.DESCRIPTION:
        yield from _length(
            f"{where}: description", option.description, limits.DESCRIPTION
        )
    if option.title and (not plain(option.title) or not _is_name(option.title)):
        yield f"{where}: its title is heard as something else"
    yield from _target(menu, option, where)


def _is_name(title: str) -> bool:
    return hear(title).intent in _NAMES


def _target(menu: Menu, option: Option, where: str) -> Iterator[str]:
    if option.code in menu.pages:
        if option.area:
            yield f"{where}: it opens a menu, and has an area as well"
        return
    if option.area not in AREAS:
        yield f"{where}: area {option.area!a} is none of {', '.join(sorted(AREAS))}"
    yield from _length(f"{where}: subetiqueta", option.subetiqueta, limits.BODY)
    yield from _length(f"{where}: wait", option.wait, limits.BODY)
    yield from _length(f"{where}: confirmation", option.confirmation, limits.TEXT)
