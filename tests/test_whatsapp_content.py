"""What a person reads of a message: never nothing, and what they wrote before all else."""

from typing import Any

import pytest

from router.model import Content, Media
from router.whatsapp.content import content_of

ERRORS = [{"code": 131051, "title": "Message type unknown", "message": "other"}]
NAME = {"first_name": "Ana", "last_name": "Paz"}
CARDS = [
    {"name": {"formatted_name": "Ana Paz"}},
    {"name": NAME},
    {"org": {"company": "PSI"}},
    {"phones": [{"type": "CELL"}, {"phone": "+54 11"}]},
    {"name": {"formatted_name": " "}, "vcard": "x"},
    None,
]


def content(**message: Any) -> Content:
    found = content_of(message)
    assert found is not None
    return found


def body(kind: str, **members: Any) -> dict[str, Any]:
    return {"type": kind, kind: members}


@pytest.mark.parametrize(
    ("message", "tipo", "text"),
    [
        (body("text", body="Hola"), "text", "Hola"),
        (body("text", body=5), "text", "5"),
        (body("text", body=""), "text", "[Mensaje vacío]"),
        (body("text", body=" \n"), "text", "[Mensaje vacío]"),
        (body("text", body=None), "text", "[Mensaje vacío]"),
        ({"type": "text"}, "text", "[Mensaje vacío]"),
        ({"type": "text", "text": "Hola"}, "text", "[Mensaje vacío]"),
        (body("image"), "image", "[Imagen]"),
        (body("image", caption="Foto"), "image", "Foto"),
        (body("image", caption=" "), "image", "[Imagen]"),
        ({"type": "image", "text": {"body": "x"}}, "image", "[Imagen]"),
        ({"type": "image", "errors": ERRORS}, "image", "[Imagen]"),
        (body("video"), "video", "[Video]"),
        (body("audio"), "audio", "[Audio]"),
        (body("voice"), "audio", "[Audio]"),
        (body("sticker"), "sticker", "[Sticker]"),
        (body("document", filename="a.pdf"), "document", "[Documento: a.pdf]"),
        (body("document", filename="a.pdf", caption="Mirá"), "document", "Mirá"),
        (body("document"), "document", "[Documento]"),
        (
            body("location", latitude=0, longitude=0),
            "location",
            "[Ubicación: 0, 0]",
        ),
        (
            body(
                "location", latitude=-34.6, longitude="-58.4", name="PSI", address="X 1"
            ),
            "location",
            "[Ubicación: PSI, X 1 · -34.6, -58.4]",
        ),
        (body("location", latitude=[], name=" "), "location", "[Ubicación]"),
        (
            {"type": "contacts", "contacts": CARDS},
            "contact",
            "[Contacto: Ana Paz, Ana Paz, PSI, +54 11]",
        ),
        ({"type": "contacts", "contacts": {}}, "contact", "[Contacto]"),
        (body("order", product_items=[{}, {}]), "text", "[Pedido: 2 productos]"),
        (
            body("order", product_items=[{}], text="Gracias"),
            "text",
            "[Pedido: 1 producto] Gracias",
        ),
        (body("order"), "text", "[Pedido: 0 productos]"),
        (body("button", text="Sí", payload="SI"), "text", "Sí"),
        (body("button", payload="SI"), "text", "SI"),
        (body("button"), "text", "[Botón]"),
        (
            body("interactive", button_reply={"id": "2", "title": "Alumnos"}),
            "text",
            "Alumnos",
        ),
        (
            body("interactive", list_reply={"id": "22", "title": "Pagos"}),
            "text",
            "Pagos",
        ),
        (body("interactive", list_reply={"id": "22"}), "text", "22"),
        (body("interactive", nfm_reply={"body": "Enviado"}), "text", "Enviado"),
        (
            body("interactive", nfm_reply={"name": "flow"}),
            "text",
            "[Formulario enviado]",
        ),
        (
            body("interactive", call_permission_reply={"response": "accept"}),
            "text",
            "[Permiso de llamada aceptado]",
        ),
        (
            body("interactive", call_permission_reply={"response": "reject"}),
            "text",
            "[Permiso de llamada rechazado]",
        ),
        (
            body("interactive", call_permission_reply={"response": "later"}),
            "text",
            "[Permiso de llamada]",
        ),
        (body("interactive"), "text", "[Respuesta interactiva]"),
        (body("system", body="User A changed"), "text", "User A changed"),
        (body("system"), "text", "[Aviso de WhatsApp]"),
        ({"type": "request_welcome"}, "text", "[Abrió el chat]"),
        (
            {"type": "unsupported", "errors": ERRORS},
            "text",
            "[Mensaje no disponible: Message type unknown]",
        ),
        ({"type": "unsupported"}, "text", "[Mensaje no disponible]"),
        (
            {"type": "unknown", "errors": [None, {}, {"details": "not supported"}]},
            "text",
            "[Mensaje no disponible: not supported]",
        ),
        ({"type": "holo"}, "text", "[Mensaje no disponible]"),
        ({"text": {"body": "Hola"}}, "text", "Hola"),
        ({"type": ["text"], "text": {"body": "Hola"}}, "text", "Hola"),
    ],
)
def test_a_message_has_words_and_a_type(
    message: dict[str, Any], tipo: str, text: str
) -> None:
    found = content(**message)
    assert (found.tipo, found.text) == (tipo, text)


def test_said_is_what_was_written_and_nothing_else() -> None:
    assert content(**body("text", body="Hola")).said == "Hola"
    assert content(**body("video", caption="Mirá")).said == "Mirá"
    for message in (
        body("image"),
        body("button", text="Sí"),
        body("interactive", button_reply={"id": "2", "title": "Alumnos"}),
        body("system", body="User A changed"),
        body("order", text="Gracias"),
        {"type": "holo", "text": {"body": "Hola"}},
    ):
        assert content(**message).said == ""


def test_choice_is_the_id_that_was_tapped() -> None:
    assert content(**body("button", payload="SI", text="Sí")).choice == "SI"
    for member in ("button_reply", "list_reply"):
        message = body("interactive", **{member: {"id": "22", "title": "Pagos"}})
        assert content(**message).choice == "22"
    assert content(**body("interactive", list_reply={"id": 22})).choice == "22"
    assert content(**body("text", body="22")).choice is None


def test_a_file_is_described_as_received() -> None:
    message = body(
        "document",
        id=5,
        mime_type="application/pdf",
        filename="../a.pdf",
        url="https://x",
    )
    assert content(**message).media == Media(
        type="document",
        id="5",
        mime_type="application/pdf",
        filename="../a.pdf",
        url="https://x",
    )
    voice = content(**body("voice", id="1")).media
    assert voice is not None
    assert voice.type == "audio"
    assert content(type="image").media is None
    assert content(**body("text", id="1")).media is None


def test_what_it_quotes_and_what_brought_it() -> None:
    referral = {"source_type": "ad", "ctwa_clid": "x"}
    found = content(type="text", context={"id": "wamid.Q"}, referral=referral)
    assert (found.quoted_id, found.referral) == ("wamid.Q", referral)
    plain = content(type="text", context={"forwarded": True}, referral=[])
    assert (plain.quoted_id, plain.referral) == (None, None)


@pytest.mark.parametrize("kind", ["reaction", "edit", "revoke"])
def test_what_changes_another_message_has_no_content(kind: str) -> None:
    assert content_of(body(kind, emoji="👍")) is None
