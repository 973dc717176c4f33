"""What follows from a message: the new state, what is said, and whether an area takes over."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, NamedTuple

from router.conversation import guard, listen, replies
from router.conversation.listen import Act, Meaning
from router.conversation.menu import PRINCIPAL, Menu, Option, Page
from router.conversation.owner import (
    Owner,
    is_assigned,
    is_attended,
    is_held,
    owner_of,
)
from router.conversation.state import (
    DERIVED,
    MAIN_AREA,
    MOST_PATH,
    OPEN,
    Conversation,
)
from router.model import Content, Event, Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What may differ between routers and lines.

    `menu_when_derived`: whether the word MENU takes a conversation back from its area;
    `unassigned` only while it has no agent, `always` from the agent too. One that the CRM
    disconnected or fixed to an inbox, or that came in by an area's own line, never.
    `agent_hold_s`: so long after an agent's message the bot hears plain choices only, and a
    conversation that was handed over counts as the agent's.
    """

    stale_s: float = 900.0
    menu_when_derived: Literal["unassigned", "always", "never"] = "unassigned"
    replies_a_minute: int = 12
    same_reply_s: float = 10.0
    agent_hold_s: float = 12 * 3600.0
    same_reply_in_a_row: int = 5  # within ten minutes, nothing else in between
    line_area: str | None = None  # whose own line it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Derivation:
    """A conversation handed to an area.

    `menu` and `option` are titles; `path` the codes chosen on the way. `confirmation` is
    what the person is told, with one `{ticket}` in it.
    """

    area: str
    code: str
    subetiqueta: str
    menu: str
    option: str
    wait: str
    path: tuple[str, ...]
    confirmation: str

    @property
    def motivo(self) -> str:
        """The reason as agents read it."""
        return f"{self.menu} - {self.option}"


class Decision(NamedTuple):
    """What follows, and where nothing is said, why.

    `heard` is what the message was taken for: `main`, `back`, `choose CODE`, `again`,
    `unclear`, or `return` to the menu from a person of the school; None where nobody listened.
    `silence` is `no_menu`, `kind`, `group`, `nobody`, `stale`, `human`, or the loop guard's
    `flood`, `repeat`, `burst`. The reply to a derivation is its confirmation, and is not
    among `replies`.
    """

    conversation: Conversation
    replies: tuple[Reply, ...] = ()
    derivation: Derivation | None = None
    silence: str | None = None
    heard: str | None = None


class _Turn(NamedTuple):
    """One message, and all that does not change while it is answered."""

    menu: Menu
    policy: Policy
    before: Conversation
    heard_s: float  # when it was written
    now_s: float

    def say(self, after: Conversation, reply: Reply, asked: str = "") -> Decision:
        """Say *reply*, which asks about the option *asked*, unless it must be held back."""
        limits = guard.Limits(
            self.policy.replies_a_minute,
            self.policy.same_reply_s,
            self.policy.same_reply_in_a_row,
        )
        silence = guard.held_back(after.memory, reply.text, self.now_s, limits)
        if silence:
            return self.keep_quiet(after, silence, asked)
        after = self.said(after, reply.text, asked)
        return Decision(conversation=after, replies=(reply,))

    def keep_quiet(
        self, after: Conversation, silence: str, asked: str = ""
    ) -> Decision:
        # What was asked for holds, though nothing is said about it. A question that is held
        # back was asked only if it was the last one as well.
        asked = asked if asked == self.before.memory.asked else ""
        after = replace(after, first=False, memory=replace(after.memory, asked=asked))
        same = after == self.before
        return Decision(conversation=self.before if same else after, silence=silence)

    def said(self, after: Conversation, text: str, asked: str = "") -> Conversation:
        memory = guard.remembered(after.memory, text, self.heard_s, self.now_s)
        return replace(after, first=False, memory=replace(memory, asked=asked))


def decide(
    conversation: Conversation,
    event: Event,
    menu: Menu | None,
    now: datetime,
    policy: Policy,
) -> Decision:
    """Return what follows from *event*, inbound and new, in *conversation* at *now*.

    Raises nothing. Where nothing changes, the conversation is the very object given.
    """
    content = event.content
    if menu is None or content is None:
        return Decision(
            conversation=conversation, silence="kind" if menu else "no_menu"
        )
    if silence := _unanswered(event, now, policy.stale_s):
        return Decision(conversation=conversation, silence=silence)
    attended = is_attended(conversation, now.timestamp(), policy.agent_hold_s)
    human = owner_of(conversation, policy.line_area) is Owner.HUMAN
    if human and not _may_return(
        conversation, policy, event, content, attended=attended
    ):
        return Decision(conversation=conversation, silence="human")
    heard = event.timestamp or now
    turn = _Turn(menu, policy, conversation, heard.timestamp(), now.timestamp())
    if human:
        return _take_back(turn)._replace(heard="return")
    page = menu.page(conversation.router_estado)
    meaning = _meant(turn, event, content, page)
    if attended and not listen.is_plain(event, content, meaning):
        return Decision(conversation=conversation, silence="human")
    return _act(turn, page, meaning)._replace(heard=_name(meaning))


def _name(meaning: Meaning) -> str:
    act = meaning.act.name.lower()
    chosen = meaning.option if meaning.act is Act.CHOOSE else None
    return f"{act} {chosen.code}" if chosen else act


def _unanswered(event: Event, now: datetime, stale_s: float) -> str | None:
    if event.group_id:
        return "group"
    if event.kind not in listen.ANSWERED:
        return "kind"
    if not (event.person.wa_id or event.person.bsuid):
        return "nobody"
    age_s = (now - event.timestamp).total_seconds() if event.timestamp else 0.0
    return "stale" if age_s > stale_s else None


def _may_return(
    held: Conversation,
    policy: Policy,
    event: Event,
    content: Content,
    *,
    attended: bool,
) -> bool:
    if policy.menu_when_derived == "never" or is_held(held, policy.line_area):
        return False
    if policy.menu_when_derived != "always" and (attended or is_assigned(held)):
        return False
    return listen.asks_for_menu(event, content)


def _take_back(turn: _Turn) -> Decision:
    held = turn.before
    free = replace(held, area=MAIN_AREA, estado=OPEN, subetiqueta=None, asignado_a=None)
    return turn.say(_in(turn.menu.main, free, ()), replies.main_menu(turn.menu))


def _meant(turn: _Turn, event: Event, content: Content, page: Page) -> Meaning:
    # First contact: the menu, whatever is said. But who taps has seen a menu before.
    if not turn.before.first:
        asked = turn.before.memory.asked
        return listen.meaning_of(event, content, turn.menu, page, asked)
    if event.kind in listen.TAPS:
        meaning = listen.tap_of(content, turn.menu, page)
        if meaning.act is Act.CHOOSE:
            return meaning
    return Meaning(Act.MAIN)


def _act(turn: _Turn, page: Page, meaning: Meaning) -> Decision:
    menu, before = turn.menu, turn.before
    match meaning.act:
        case Act.CHOOSE if meaning.option:
            return _choose(turn, page, meaning.option)
        case Act.MAIN:
            return _show(turn, menu.main)
        case Act.BACK:
            return _show(turn, menu.page(page.parent))
        case Act.AGAIN:
            return turn.say(before, replies.page_reply(menu, page))
        case _:
            return _excuse(turn, page, meaning.option)


def _excuse(turn: _Turn, page: Page, meant: Option | None = None) -> Decision:
    before, same_s = turn.before, turn.policy.same_reply_s
    asked = meant.code if meant and turn.menu.meant else ""
    if guard.of_one_breath(before.memory, turn.heard_s, turn.now_s, same_s):
        return turn.keep_quiet(before, "burst", asked)
    return turn.say(before, replies.hint(turn.menu, page.code, meant), asked)


def _choose(turn: _Turn, page: Page, option: Option) -> Decision:
    path = _walked(turn.before, page, option.code)
    if opened := turn.menu.opened_by(option):
        return turn.say(
            _in(opened, turn.before, path), replies.page_reply(turn.menu, opened)
        )
    if not option.area:  # a menu that was never checked
        return _excuse(turn, page)
    return _derive(turn, option, path)


def _derive(turn: _Turn, option: Option, path: tuple[str, ...]) -> Decision:
    # Never held back: whoever is handed over is told so.
    text = replies.confirmation(option).text
    after = replace(
        _in(turn.menu.main, turn.before, path),
        router_estado=DERIVED,
        submenu_actual=option.code,
        subetiqueta=option.subetiqueta,
        area=option.area,
        estado=OPEN,
    )
    derivation = Derivation(
        area=option.area,
        code=option.code,
        subetiqueta=option.subetiqueta,
        menu=turn.menu.page_with(option).title or option.area,
        option=option.title,
        wait=option.wait,
        path=path,
        confirmation=text,
    )
    return Decision(conversation=turn.said(after, text), derivation=derivation)


def _show(turn: _Turn, page: Page) -> Decision:
    path = () if page is turn.menu.main else turn.before.memory.path[:-1]
    return turn.say(_in(page, turn.before, path), replies.page_reply(turn.menu, page))


def _in(page: Page, conversation: Conversation, path: tuple[str, ...]) -> Conversation:
    return replace(
        conversation,
        router_estado=page.code,
        submenu_actual=None if page.code == PRINCIPAL else page.code,
        memory=replace(conversation.memory, path=path),
    )


def _walked(before: Conversation, page: Page, code: str) -> tuple[str, ...]:
    # The columns rule: a path that they contradict was left by somebody who wrote them.
    if page.code == PRINCIPAL:
        return (code,)
    path = before.memory.path or (page.code,)
    return path if path[-1] == code else (*path, code)[-MOST_PATH:]
