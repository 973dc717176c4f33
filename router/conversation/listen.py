"""What a message asks for, in the list that the person is in."""

import enum
from typing import NamedTuple

from router.conversation import replies
from router.conversation.menu import Menu, Option, Page
from router.conversation.words import Heard, Intent, hear, says_menu
from router.model import Content, Event

TEXT = "message.text"
TAPS = frozenset(
    {
        "message.button",
        "message.interactive.button_reply",
        "message.interactive.list_reply",
        "message.interactive.product",
        "message.interactive.other",
    }
)
MEDIA = frozenset(
    f"message.{kind}"
    for kind in (
        "image",
        "video",
        "audio",
        "voice",
        "document",
        "sticker",
        "location",
        "contacts",
        "order",
    )
)
# Everything else is never answered: reactions, edits, revocations, system messages, forms,
# permissions, unsupported types, and whatever WhatsApp comes up with next.
ANSWERED = MEDIA | TAPS | {TEXT}
_FROM_ANYWHERE = 2  # digits of a code that works in any list


class Act(enum.Enum):
    """What to do."""

    MAIN = enum.auto()  # show the first list
    BACK = enum.auto()
    CHOOSE = enum.auto()
    AGAIN = enum.auto()  # show the list that the person is in
    UNCLEAR = enum.auto()


class Meaning(NamedTuple):
    """What a message asks for.

    `option` is there when the act is to choose; where it is unclear, it is the one that was
    perhaps meant.
    """

    act: Act
    option: Option | None = None


def meaning_of(
    event: Event, content: Content, menu: Menu, page: Page, asked: str = ""
) -> Meaning:
    """Return what *event*, of a kind that is answered, asks for in *page*.

    *asked* is the code of the option that the person was just asked about.
    """
    if event.kind in MEDIA:  # a caption is no command
        return Meaning(Act.AGAIN)
    if event.kind in TAPS:
        return tap_of(content, menu, page)
    heard = hear(content.said)
    option = menu.coded.get(asked)
    if option in page.options and heard.words not in page.titled:
        if heard.intent is Intent.YES:
            return Meaning(Act.CHOOSE, option)
        if heard.intent is Intent.NO:
            return Meaning(Act.AGAIN)
    return _typed(heard, menu, page)


def tap_of(content: Content, menu: Menu, page: Page) -> Meaning:
    """Return what was tapped: by its id, then by its title, from whatever list it was."""
    name = (content.choice or "").strip().lower()
    if name in _NAMED:
        return _NAMED[name]
    if option := menu.coded.get(name):
        return Meaning(Act.CHOOSE, option)
    heard = hear(content.text)
    if option := page.titled.get(heard.words) or menu.titled.get(heard.words):
        return Meaning(Act.CHOOSE, option)
    return _COMMANDS.get(heard.intent, Meaning(Act.UNCLEAR))


def asks_for_menu(event: Event, content: Content) -> bool:
    """Return whether the word MENU is said or tapped. A 0 may be an answer to an agent."""
    if content.choice:
        return content.choice.strip().lower() == replies.MENU
    return event.kind not in MEDIA and says_menu(content.text)


def is_plain(event: Event, content: Content, meaning: Meaning) -> bool:
    """Return whether *meaning* is the menu's beyond doubt, though an agent is writing too.

    A tap, a code and nothing else, or the word MENU: all else may be for the agent.
    """
    if asks_for_menu(event, content):
        return True
    plain = event.kind in TAPS or content.said.strip().isdecimal()
    return plain and meaning.act is Act.CHOOSE


def _typed(heard: Heard, menu: Menu, page: Page) -> Meaning:
    if heard.intent is Intent.CODE:
        return _coded(heard.code, menu, page)
    if option := page.titled.get(heard.words):
        return Meaning(Act.CHOOSE, option)
    if heard.intent is Intent.PLACE:
        return _placed(int(heard.code), menu, page)
    if heard.intent is Intent.PERSON and (option := menu.person(page)):
        return Meaning(Act.CHOOSE, option)
    if heard.intent is Intent.GREETING:
        return Meaning(Act.MAIN)
    return _COMMANDS.get(heard.intent, Meaning(Act.UNCLEAR))


def _coded(code: str, menu: Menu, page: Page) -> Meaning:
    option = menu.coded.get(code)
    if option and (len(code) == _FROM_ANYWHERE or option in page.options):
        return Meaning(Act.CHOOSE, option)
    meant = menu.coded.get(page.code + code)
    return Meaning(Act.UNCLEAR, meant if meant in page.options else None)


def _placed(place: int, menu: Menu, page: Page) -> Meaning:
    # As "2" in list 2, which may be 22: what chose list 2 is sometimes sent twice, and a
    # ticket is not taken back. Who meant it says its code.
    option = page.options[place - 1] if place <= len(page.options) else None
    if option and page is menu.main:
        return Meaning(Act.CHOOSE, option)
    return Meaning(Act.UNCLEAR, option)


_COMMANDS = {Intent.MENU: Meaning(Act.MAIN), Intent.BACK: Meaning(Act.BACK)}
_NAMED = {replies.MENU: Meaning(Act.MAIN), replies.BACK: Meaning(Act.BACK)}
