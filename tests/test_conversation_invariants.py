"""Whatever happens to a conversation, the promises of the bot hold: random conversations."""

import dataclasses
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.conversation import limits
from router.conversation.decide import Decision, Policy, decide
from router.conversation.menu import AREAS, packaged
from router.conversation.owner import Owner, owner_of
from router.conversation.state import MAIN_AREA, Conversation, Memory
from router.conversation.words import Intent, hear
from router.model import Content, Event, Person, Reply
from tests.events import message, now

MENU = packaged()
STATES = {"principal", "1", "2", "3", "4", "derivada"}
ANYTHING = st.text(st.characters(codec=None, exclude_categories=()), max_size=30)
TEXTS = (
    st.sampled_from(
        [
            *MENU.coded,
            *(option.title for option in MENU.options()),
            *("MENU", "0", "volver", "Atrás", "hola", "buenas!", "tengo 2 hijos"),
            *("sí", "no", "1", "6", "la 2", "persona", "hablar con alguien", "inicio"),
        ]
    )
    | ANYTHING
)
KINDS = st.sampled_from(
    [
        "message.text",
        "message.button",
        "message.interactive.list_reply",
        "message.interactive.flow_reply",
        "message.image",
        "message.audio",
        "message.reaction",
        "message.unsupported",
        "message.system.other",
        "status.read",
        "echo.text",
    ]
)
POLICIES = st.builds(
    Policy,
    menu_when_derived=st.sampled_from(["unassigned", "always", "never"]),
    replies_a_minute=st.integers(1, 15),
    same_reply_s=st.sampled_from([0.0, 10.0]),
    same_reply_in_a_row=st.integers(1, 6),
    line_area=st.sampled_from([None, None, None, "Ventas"]),
)
# What the CRM does to a conversation behind the bot's back.
MEDDLING = st.fixed_dictionaries(
    {},
    optional={
        "asignado_a": st.sampled_from([None, "", "agente-7"]),
        "inbox_fijo": st.sampled_from([None, "ventas_1"]),
        "desconectado": st.booleans(),
        "router_estado": st.sampled_from(sorted(STATES)),
        "area": st.sampled_from([MAIN_AREA, *sorted(AREAS)]),
        "estado": st.sampled_from(["nueva", "activa", "esperando", "resuelta"]),
        "memory": st.just(Memory()),
    },
)


@st.composite
def events(draw: st.DrawFn) -> Event:
    said, kind = draw(TEXTS), draw(KINDS)
    tapped = kind.startswith(("message.button", "message.interactive"))
    content = Content(
        text=said or "[Mensaje vacío]",
        tipo="text",
        said="" if tapped else said,
        choice=draw(st.none() | TEXTS) if tapped else None,
    )
    return message(
        kind=kind,
        content=None if kind == "message.reaction" else content,
        group_id=draw(st.sampled_from([None] * 9 + ["G1"])),
        person=draw(st.sampled_from([Person(wa_id="5491100000001")] * 9 + [Person()])),
        timestamp=None,
    )


STEPS = st.tuples(
    st.sampled_from([0.0, 0.2, 1.0, 5.0, 11.0, 61.0]),
    st.sampled_from([None, 0.0, -3.0, -901.0, 5000.0]),
    events(),
    st.just({}) | st.just({}) | MEDDLING,
)


@dataclass
class Run:
    """One conversation, looked at after every step."""

    policy: Policy
    conversation: Conversation = field(default_factory=lambda: Conversation(first=True))
    seconds: float = 0.0
    replied_at: list[float] = field(default_factory=list)
    row: list[tuple[str, float]] = field(default_factory=list)
    meddled: bool = False

    def step(
        self, pause: float, age: float | None, event: Event, change: dict[str, Any]
    ) -> None:
        self.seconds += pause
        if change:
            self.conversation = replace(self.conversation, **change)
        if "memory" in change:
            self.replied_at.clear()  # who empties the memory allows a new minute
            self.row.clear()
        if age is not None:
            written = now() + timedelta(seconds=self.seconds + age)
            event = dataclasses.replace(event, timestamp=written)
        before = self.conversation
        decision = self.decide(event)
        assert decision == self.decide(event)
        self.look(before, event, decision)
        self.conversation = decision.conversation

    def decide(self, event: Event) -> Decision:
        at = now() + timedelta(seconds=self.seconds)
        return decide(self.conversation, event, MENU, at, self.policy)

    def look(self, before: Conversation, event: Event, decision: Decision) -> None:
        after = decision.conversation
        assert after.router_estado in STATES
        assert after.submenu_actual in {None, *MENU.coded}
        assert len(decision.replies) <= 1
        assert bool(decision.silence) != bool(decision.replies or decision.derivation)
        assert Memory.from_json(after.memory.to_json()) == after.memory
        for reply in decision.replies:
            within_limits(reply)
        if after == before:
            assert after is before
        self.look_at_the_owner(before, event, decision)
        look_at_the_derivation(before, decision)
        self.look_at_the_minute(decision)
        self.look_at_the_row(decision)
        if not (decision.replies or decision.derivation):
            asked = after.memory.asked
            assert asked in {"", before.memory.asked}
            kept = replace(before.memory, path=after.memory.path, asked=asked)
            assert after.memory == kept

    def look_at_the_owner(
        self, before: Conversation, event: Event, decision: Decision
    ) -> None:
        if owner_of(before, self.policy.line_area) is Owner.BOT:
            moved = decision.derivation is not None
            assert (decision.conversation.area == before.area) or moved
            assert decision.conversation.asignado_a == before.asignado_a
            return
        assert decision.derivation is None
        if decision.conversation is before:
            assert not decision.replies
            return
        assert event.content is not None  # MENU took it back
        words = {event.content.said, event.content.choice, event.content.text}
        assert any(hear(word or "").intent is Intent.MENU for word in words)
        assert self.policy.menu_when_derived != "never"
        assert owner_of(decision.conversation, self.policy.line_area) is Owner.BOT
        if self.policy.menu_when_derived == "unassigned":
            assert not before.asignado_a

    def look_at_the_minute(self, decision: Decision) -> None:
        """A confirmation is always said; it counts, but is not what is limited."""
        if decision.replies:
            recent = [at for at in self.replied_at if self.seconds - at < 60]
            assert len(recent) < self.policy.replies_a_minute
        if decision.replies or decision.derivation:
            self.replied_at.append(self.seconds)

    def look_at_the_row(self, decision: Decision) -> None:
        """A confirmation is said however often it was."""
        for reply in decision.replies:
            row = [at for text, at in self.row if text == reply.text]
            recent = [at for at in row if self.seconds - at < 600]
            assert len(recent) < self.policy.same_reply_in_a_row
            self.row = [*((reply.text, at) for at in row), (reply.text, self.seconds)]
        if decision.derivation:
            self.row.clear()


def look_at_the_derivation(before: Conversation, decision: Decision) -> None:
    after, derivation = decision.conversation, decision.derivation
    became = after.router_estado == "derivada" and before.router_estado != "derivada"
    assert (derivation is not None) == became
    if derivation is not None:
        assert not decision.replies
        assert derivation.confirmation.count("{ticket}") == 1
        assert limits.size(derivation.confirmation) <= limits.TEXT - 20
        assert derivation.path[-1] == derivation.code == after.submenu_actual
        assert after.area == derivation.area in AREAS
        assert after.subetiqueta == derivation.subetiqueta
        assert after.estado == "activa"


def within_limits(reply: Reply) -> None:
    assert 0 < limits.size(reply.text) <= 4096
    assert 0 < limits.size(reply.body) <= 1024
    assert 0 < limits.size(reply.button) <= 20
    assert 0 < len(reply.choices) <= 10
    assert len({choice.id for choice in reply.choices}) == len(reply.choices)
    for choice in reply.choices:
        assert 0 < limits.size(choice.title) <= 24
        assert limits.size(choice.description) <= 72


@given(POLICIES, st.lists(STEPS, max_size=40))
@settings(max_examples=150, deadline=None)
def test_random_conversations_keep_the_promises(
    policy: Policy,
    steps: list[tuple[float, float | None, Event, dict[str, Any]]],
) -> None:
    run = Run(policy)
    for step in steps:
        run.step(*step)


@given(ANYTHING, ANYTHING, KINDS, st.sampled_from(sorted(STATES)) | ANYTHING)
@settings(deadline=None)
def test_no_text_and_no_state_makes_it_fail(
    said: str, choice: str, kind: str, state: str
) -> None:
    content = Content(text=said, tipo="text", said=said, choice=choice)
    event = message(kind=kind, content=content)
    conversation = Conversation(router_estado=state, submenu_actual=choice)
    decision = decide(conversation, event, MENU, now(), Policy())
    assert decision.silence or decision.replies or decision.derivation


@given(st.lists(TEXTS, max_size=12), st.integers(0, 12))
@settings(deadline=None)
def test_wherever_one_is_menu_leads_back_to_the_start(
    texts: list[str], cut: int
) -> None:
    run = Run(Policy())
    for text in [*texts[:cut], "MENU"]:
        content = Content(text=text or " ", tipo="text", said=text)
        run.step(61, None, message(content=content, timestamp=None), {})
    assert run.conversation.router_estado == "principal"
    assert run.conversation.submenu_actual is None


@pytest.mark.parametrize("first", sorted(MENU.coded))
def test_two_bots_that_answer_each_other_come_to_a_halt(first: str) -> None:
    """The other one repeats what it is told, and taps whatever it is offered."""
    run = Run(Policy())
    text, said = first, 0
    for _ in range(500):
        content = Content(text=text, tipo="text", said=text)
        decision = run.decide(message(content=content, timestamp=None))
        run.conversation = decision.conversation
        said += len(decision.replies)
        text = decision.replies[0].text if decision.replies else first
        run.seconds += 0.1
    assert said <= 12


@pytest.mark.parametrize("text", ["Estoy de viaje", "MENU", "6", "no", "hola"])
def test_a_bot_that_takes_its_time_comes_to_a_halt_too(text: str) -> None:
    run = Run(Policy())
    content, said = Content(text=text, tipo="text", said=text), 0
    for _ in range(50):  # 550 seconds
        decision = run.decide(message(content=content, timestamp=None))
        run.conversation = decision.conversation
        said += len(decision.replies)
        run.seconds += 11
    assert said <= 6  # the greeting, and five times the same
