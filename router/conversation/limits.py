"""What WhatsApp takes of a list and of a text; over it the Graph API refuses the message."""

from router.model import Reply

ROWS = 10  # of all sections together
ROW_TITLE = 24
SECTION_TITLE = 24
DESCRIPTION = 72
BUTTON = 20
BODY = 1024  # of an interactive message
TEXT = 4096


def size(text: str) -> int:
    """Return the length in UTF-16 units: never less than by any other way to count."""
    return len(text) + sum(character > "\uffff" for character in text)


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
