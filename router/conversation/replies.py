"""What the bot says: numbered text, complete, and the rows of the same as a list."""

import functools
import re

from router.conversation import limits
from router.conversation.menu import Menu, Option, Page
from router.model import Choice, Reply

BACK = "volver"  # the id of the row that leads back
MENU = "menu"


def main_menu(menu: Menu) -> Reply:
    """Return the first list."""
    return page_reply(menu, menu.main)


def submenu(menu: Menu, code: str) -> Reply:
    """Return the list *code*."""
    return page_reply(menu, menu.page(code))


def page_reply(menu: Menu, page: Page) -> Reply:
    """Return *page* under its own text."""
    return _under(page.text, menu, page)


def hint(menu: Menu, current: str | None, meant: Option | None = None) -> Reply:
    """Return the list that the person is in, under a word of excuse.

    *meant* is asked about, where the menu has words for it.
    """
    words = menu.hint
    if meant and menu.meant:
        places = {"code": meant.code, "title": meant.title}
        words = re.sub(r"\{(code|title)\}", lambda place: places[place[1]], menu.meant)
    return _under(words, menu, menu.page(current))


def confirmation(option: Option) -> Reply:
    """Return what confirms that *option* handed over; `{ticket}` stands in it once."""
    return Reply(text=option.confirmation)


@functools.lru_cache(maxsize=256)
def _under(words: str, menu: Menu, page: Page) -> Reply:
    # A list that WhatsApp would refuse goes out as the text that it always has.
    rows = "\n".join(f"*{option.code}.* {option.title}" for option in page.options)
    text = "\n\n".join((words, rows, _ending(menu, page)))
    reply = Reply(
        text=text, body=words, button=menu.button, choices=_choices(menu, page)
    )
    return reply if limits.fits_a_list(reply) else Reply(text=text)


def _ending(menu: Menu, page: Page) -> str:
    return menu.prompt if page is menu.main else f"{menu.prompt}\n{menu.leave}"


def _choices(menu: Menu, page: Page) -> tuple[Choice, ...]:
    rows = tuple(
        Choice(id=option.code, title=option.title, description=option.description)
        for option in page.options
    )
    # The row back is the first to go where ten options fill the list: VOLVER can be typed.
    if page is menu.main or len(rows) >= limits.ROWS:
        return rows
    return (*rows, Choice(id=BACK, title=menu.back))
