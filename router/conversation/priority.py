"""How urgent a ticket is, by what the person wrote."""

import re
from collections.abc import Iterable
from typing import Literal

from router.conversation.menu import Menu
from router.conversation.words import fold

LONGEST = 2000  # characters of a text that are read

_ALARM = re.compile(
    r"\b(?:urgentes?|urgentemente|urgencias?|error(?:es)?|problemas?"
    r"|no (?:me |nos )?(?:funcionan?|andan?|dejan?|puedo|pude|podemos|pudimos))\b"
)
_CALM = re.compile(
    r"\b(?:(?:sin|ningun|no hay|no tengo|no es) (?:ningun )?"
    r"(?:problemas?|urgencias?|urgente|error(?:es)?))\b"
)


def priority_of(
    texts: Iterable[str], menu: Menu | None = None
) -> Literal["alta", "normal"]:
    """Return the priority by the person's own words, whatever their case and accents.

    The label of an option of *menu*, typed or tapped, is nobody's own word.
    """
    labels = _labels(menu) if menu else frozenset()
    folded = (fold(text[:LONGEST]) for text in texts)
    own = (text for text in folded if text not in labels)
    return (
        "alta" if any(_ALARM.search(_CALM.sub(" ", text)) for text in own) else "normal"
    )


def _labels(menu: Menu) -> frozenset[str]:
    return frozenset(title for page in menu.pages.values() for title in page.titled)
