"""What WhatsApp takes of a list and of a text; over it the Graph API refuses the message."""

from router.model import Reply
from router.whatsapp import outgoing

ROWS = outgoing.LIST_ROWS  # of all sections together
ROW_TITLE = outgoing.ROW_TITLE
SECTION_TITLE = outgoing.SECTION_TITLE
DESCRIPTION = outgoing.ROW_DESCRIPTION
BUTTON = outgoing.LIST_BUTTON
BODY = outgoing.INTERACTIVE_BODY
TEXT = outgoing.TEXT
size = outgoing.size


def fits_a_list(reply: Reply) -> bool:
    """Return whether *reply* can go out as an interactive list."""
    return (
        1 <= len(reply.choices) <= ROWS
        and 1 <= size(reply.body) <= BODY
        and 1 <= size(reply.button) <= BUTTON
        and all(
            1 <= size(choice.title) <= ROW_TITLE
            and size(choice.description) <= DESCRIPTION
            for choice in reply.choices
        )
    )
