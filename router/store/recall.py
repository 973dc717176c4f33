"""Who wrote lately: what was read of them, and as which version.

A conversation changes while its batch is on its way, so until that is committed it is held, and
another batch looks the person up; where it never is, it stays held, and nobody goes by what
was not stored.

Nothing here is believed. A row computed from it says which version of the conversation it was
computed from, and record.sql takes itself back where that is not the present one any more; so
a steady conversation costs one round trip, and a changed one two more.
"""

from collections.abc import Collection
from typing import Generic, TypeVar

from router.store.aliases import Alias, short
from router.store.batch import Batch, Message
from router.store.directory import Directory
from router.store.people import Contact, Conversation

MOST = 10_000  # people, and messages, of each of two generations

K = TypeVar("K")
V = TypeVar("V")


class Generations(Generic[K, V]):
    """A mapping that forgets what has not been asked for lately, a generation at a time."""

    def __init__(self, most: int) -> None:
        """Hold between *most* and twice as many."""
        self._most = most
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """Return what was put, if it is still known."""
        found = self._young.get(key)
        if found is None and (found := self._old.get(key)) is not None:
            self.put(key, found)
        return found

    def put(self, key: K, value: V) -> None:
        """Remember *value*."""
        if len(self._young) >= self._most:
            self._old, self._young = self._young, {}
        self._young[key] = value

    def knows_any(self, keys: Collection[K]) -> bool:
        """Return whether anything was put under one of *keys*."""
        return not (
            self._young.keys().isdisjoint(keys) and self._old.keys().isdisjoint(keys)
        )

    def drop(self, key: K) -> None:
        """Forget *key*."""
        self._young.pop(key, None)
        self._old.pop(key, None)


class Recall:
    """The memory of one ledger."""

    def __init__(self, most: int = MOST) -> None:
        """Remember about *most* people and as many messages."""
        self._people: Generations[Alias, Contact] = Generations(most)
        self._groups: Generations[str, Conversation] = Generations(most)
        self._messages: Generations[str, bool] = Generations(most)

    def fill(self, directory: Directory, batch: Batch) -> list[Message] | None:
        """Tell *directory* who wrote the messages of *batch*; return those of strangers.

        None if one of the messages may be stored already: then all must be looked up.
        """
        if self._messages.knows_any([message.wamid for message in batch.messages]):
            return None
        recalls = self._recalls
        return [m for m in batch.messages if not recalls(m, directory)]

    def _recalls(self, message: Message, directory: Directory) -> bool:
        if message.event.group_id:
            group = short(message.event.group_id)
            conversation = self._groups.get(group)
            if conversation is None or not _hold(conversation, directory):
                return False
            directory.groups[group] = conversation
            return True
        contact = self._person(message)
        if contact is None or contact.conversation is None:
            return False
        if not _hold(contact.conversation, directory):
            return False
        directory.people.recall(contact, message.aliases + message.kept)
        return True

    def _person(self, message: Message) -> Contact | None:
        # Whoever is meant by all of the message's names; a new name makes a stranger.
        first: Contact | None = None
        if message.changed is not None:
            return None
        for alias in message.aliases + message.kept:
            contact = self._people.get(alias)
            if contact is None or contact is not (first := first or contact):
                return None
        if first is None or not (first.nombre or not message.event.person.name):
            return None
        return first if message.aliases else None

    def remember(self, batch: Batch, directory: Directory) -> None:
        """Remember what was committed, and who of *directory* was looked up for it."""
        for alias, contact in directory.people.by_alias.items():
            if contact.conversation is not None and alias not in directory.people.left:
                self._people.put(alias, contact)
        for group, conversation in directory.groups.items():
            self._groups.put(group, conversation)
        self.remember_messages(batch, directory)

    def remember_messages(self, batch: Batch, directory: Directory) -> None:
        """Remember what was committed; who wrote it is remembered already."""
        for conversation in directory.held:
            conversation.held = False
        for message in batch.messages:
            self._messages.put(message.wamid, True)

    def forget(self, batch: Batch) -> None:
        """Forget who wrote the messages of *batch*."""
        for message in batch.messages:
            for alias in message.aliases + message.kept:
                self._people.drop(alias)
            if message.event.group_id:
                self._groups.drop(short(message.event.group_id))


def _hold(conversation: Conversation, directory: Directory) -> bool:
    """Return whether the batch of *directory* alone may go by *conversation* now."""
    if not conversation.held:
        conversation.held = True
        directory.held.add(conversation)
    return conversation in directory.held
