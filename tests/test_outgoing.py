import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.cli import fake_rules
from router.model import Choice, Reply
from router.whatsapp import outgoing
from router.whatsapp.outgoing import Outgoing, Section

PHONE = "5491100000001"
BSUID = "AR.1000000000000001"
EMOJI = "\N{WAVING HAND SIGN}"  # two UTF-16 units, one code point


def choice(title: str = "Cursos", **more: str) -> Choice:
    return Choice(**({"id": "2", "title": title} | more))


def choices(count: int) -> tuple[Choice, ...]:
    return tuple(Choice(id=str(n), title=f"Opción {n}") for n in range(count))


def reply(**parts: Any) -> Reply:
    whole = {"text": "1. Cursos", "body": "Elegí", "button": "Ver opciones"}
    return Reply(**({**whole, "choices": choices(3)} | parts))


def test_a_text_is_what_the_graph_api_takes() -> None:
    assert outgoing.text(PHONE, "Hola", reply_to="wamid.A", callback="7") == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": PHONE,
        "type": "text",
        "text": {"preview_url": False, "body": "Hola"},
        "context": {"message_id": "wamid.A"},
        "biz_opaque_callback_data": "7",
    }


def test_a_person_without_a_phone_is_the_recipient_and_not_to() -> None:
    for bsuid in (BSUID, "AR.ENT.1000000000000001"):
        body = outgoing.text(bsuid, "Hola")
        assert body["recipient"] == bsuid
        assert "to" not in body


@pytest.mark.parametrize(
    "to", ["", "+5491100000001", "54 911", "AR.", "AR.12 3", "@ana", "٠١٢٣٤٥"]
)
def test_a_recipient_that_is_neither_is_refused(to: str) -> None:
    with pytest.raises(ValueError, match="neither digits nor a BSUID"):
        outgoing.text(to, "Hola")


def test_a_list_has_one_section_without_a_title() -> None:
    body = outgoing.of_reply(
        reply(choices=(choice(description="Mirá todo"), choice(id="5"))),
        to=PHONE,
        as_list=True,
        callback="7",
    )
    assert body["type"] == "interactive"
    assert body["interactive"] == {
        "type": "list",
        "body": {"text": "Elegí"},
        "action": {
            "button": "Ver opciones",
            "sections": [
                {
                    "rows": [
                        {"id": "2", "title": "Cursos", "description": "Mirá todo"},
                        {"id": "5", "title": "Cursos"},
                    ]
                }
            ],
        },
    }
    assert body["biz_opaque_callback_data"] == "7"


def test_buttons_have_ids_and_titles() -> None:
    body = outgoing.buttons(
        PHONE, "¿Seguimos?", choices(2), footer="PSI", header="Hola"
    )
    content = body["interactive"]
    assert content["type"] == "button"
    assert content["header"] == {"type": "text", "text": "Hola"}
    assert content["footer"] == {"text": "PSI"}
    assert content["action"]["buttons"][1] == {
        "type": "reply",
        "reply": {"id": "1", "title": "Opción 1"},
    }


def test_an_empty_emoji_takes_a_reaction_back() -> None:
    body = outgoing.reaction(PHONE, "wamid.A", "")
    assert body["reaction"] == {"message_id": "wamid.A", "emoji": ""}


def test_a_read_mark_has_no_recipient_and_may_show_typing() -> None:
    mark = {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.A"}
    assert outgoing.read_mark("wamid.A") == mark
    assert outgoing.read_mark("wamid.A", typing=True) == mark | {
        "typing_indicator": {"type": "text"}
    }


def test_a_template_has_a_name_a_language_and_perhaps_components() -> None:
    body = outgoing.template(PHONE, "aviso", "es_AR", [{"type": "body"}])
    assert body["template"] == {
        "name": "aviso",
        "language": {"code": "es_AR"},
        "components": [{"type": "body"}],
    }
    assert "components" not in outgoing.template(PHONE, "a", "es_AR")["template"]


def test_media_go_by_link_and_what_is_empty_is_left_out() -> None:
    link = "https://files.example/a.pdf"
    body = outgoing.media(PHONE, "document", link, caption="Plan", filename="a.pdf")
    assert body["document"] == {"link": link, "caption": "Plan", "filename": "a.pdf"}
    assert outgoing.media(PHONE, "audio", link)["audio"] == {"link": link}


@pytest.mark.parametrize(
    ("kind", "link", "more"),
    [
        ("poem", "https://files.example/a", {}),
        ("image", "file:///etc/passwd", {}),
        ("image", "", {}),
        ("audio", "https://files.example/a", {"caption": "no"}),
        ("image", "https://files.example/a", {"filename": "a.png"}),
        ("image", "https://files.example/a", {"caption": "x" * 1025}),
    ],
)
def test_media_that_whatsapp_would_refuse_are_not_built(
    kind: str, link: str, more: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match=r"media|link|takes no|caption"):
        outgoing.media(PHONE, kind, link, **more)


def test_a_text_is_never_cut_and_the_error_does_not_quote_it() -> None:
    assert outgoing.text(PHONE, "x" * 4096)["text"]["body"] == "x" * 4096
    with pytest.raises(ValueError, match="text has 4097 characters") as caught:
        outgoing.text(PHONE, "y" * 4097)
    assert "y" not in str(caught.value).replace("any", "")


def test_a_character_outside_the_basic_plane_counts_twice() -> None:
    assert outgoing.size("Hola" + EMOJI) == 6
    with pytest.raises(ValueError, match="4098"):
        outgoing.text(PHONE, EMOJI * 2049)


@pytest.mark.parametrize(
    "parts",
    [
        {"choices": ()},
        {"choices": choices(11)},
        {"choices": (choice(), choice())},  # the same id
        {"choices": (choice("x" * 25),)},
        {"choices": (choice(EMOJI * 13),)},
        {"choices": (choice(" "),)},
        {"choices": (choice(id="x" * 201),)},
        {"choices": (choice(description="x" * 73),)},
        {"body": ""},
        {"body": "x" * 1025},
        {"button": ""},
        {"button": "x" * 21},
    ],
)
def test_a_reply_that_is_no_list_goes_out_as_its_text(parts: dict[str, Any]) -> None:
    said = reply(**parts)
    assert not outgoing.fits(said)
    body = outgoing.of_reply(said, to=PHONE, as_list=True)
    assert body["text"]["body"] == said.text


def test_a_list_is_a_wish() -> None:
    assert outgoing.fits(reply())
    assert outgoing.of_reply(reply(), to=PHONE, as_list=False)["type"] == "text"
    assert outgoing.of_reply(reply(), to=BSUID, as_list=True)["recipient"] == BSUID


def test_several_sections_need_titles() -> None:
    two = [Section(rows=choices(1), title="Uno"), Section(rows=(choice(id="9"),))]
    with pytest.raises(ValueError, match="section title is empty"):
        outgoing.interactive_list(PHONE, "Elegí", "Ver", two)
    two[1] = Section(rows=(choice(id="9"),), title="Dos")
    body = outgoing.interactive_list(PHONE, "Elegí", "Ver", two)
    assert [s["title"] for s in body["interactive"]["action"]["sections"]] == [
        "Uno",
        "Dos",
    ]
    two[1] = Section(rows=(), title="Dos")
    with pytest.raises(ValueError, match="no rows"):
        outgoing.interactive_list(PHONE, "Elegí", "Ver", two)


def test_a_window_is_a_day_and_after_an_ad_three() -> None:
    assert outgoing.window_until(1000.0) == 1000.0 + 86_400
    assert outgoing.window_until(1000.0, from_ad=True) == 1000.0 + 3 * 86_400


def test_the_callback_is_measured_in_bytes() -> None:
    assert outgoing.text(PHONE, "a", callback="é" * 256)
    with pytest.raises(ValueError, match="512 bytes"):
        outgoing.text(PHONE, "a", callback="é" * 257)


TEXTS = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=80
)


@given(
    st.builds(
        Reply,
        text=TEXTS.map(lambda words: "Hola" + words),
        body=TEXTS,
        button=st.text(max_size=24),
        choices=st.lists(
            st.builds(Choice, id=st.text(max_size=5), title=TEXTS, description=TEXTS),
            max_size=12,
        ).map(tuple),
    ),
    st.sampled_from([PHONE, BSUID]),
    st.booleans(),
)
def test_whatever_is_said_goes_out_in_a_form_that_the_rules_allow(
    said: Reply,
    to: str,
    as_list: bool,  # noqa: FBT001 -- a case
) -> None:
    body = outgoing.of_reply(said, to=to, as_list=as_list, callback="7")
    assert fake_rules.problem(json.loads(json.dumps(body))) is None


@given(TEXTS, st.none() | st.floats(0, 1e11), st.booleans())
def test_a_payload_reads_back_as_what_it_was(
    words: str,
    until: float | None,
    bulk: bool,  # noqa: FBT001 -- a case
) -> None:
    message = Outgoing(
        phone_number_id="100000000000001",
        body=outgoing.text(PHONE, "a" + words),
        until=until,
        bulk=bulk,
    )
    assert Outgoing.from_bytes(message.to_bytes()) == message
    assert message.to_bytes() == message.to_bytes()
    assert message.recipient == PHONE


def test_a_payload_with_a_lone_surrogate_can_be_written() -> None:
    body = outgoing.text(BSUID, "a\ud83d")
    payload = Outgoing(phone_number_id="1", body=body).to_bytes()
    assert Outgoing.from_bytes(payload).body["text"]["body"] == "a\ufffd"
    assert Outgoing.from_bytes(payload).recipient == BSUID


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b'{"phone_number_id":"1"}',
        b'{"phone_number_id":"../1","until":null,"bulk":false,"body":{}}',
        b'{"phone_number_id":"1","until":"soon","bulk":false,"body":{}}',
        b'{"phone_number_id":"1","until":null,"bulk":1,"body":{}}',
        b'{"phone_number_id":"1","until":null,"bulk":false,"body":"Hola"}',
    ],
)
def test_another_payload_is_none(payload: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- orjson's words differ
        Outgoing.from_bytes(payload)
