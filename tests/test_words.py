"""What is heard in what people type, and how urgent it sounds."""

import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.conversation.menu import packaged
from router.conversation.priority import priority_of
from router.conversation.words import (
    LONGEST,
    Heard,
    Intent,
    fold,
    hear,
    plain,
    says_menu,
)

HOSTILE = st.text(st.characters(codec=None, exclude_categories=()), max_size=300)


@pytest.mark.parametrize(
    "text",
    [
        "2",
        " 2 ",
        "2.",
        "2-",
        "2)",
        "(2)",
        "*2*",
        "_2_",
        "~2~",
        "`2`",
        '"2"',
        "#2",
        "2\n",
        "\t2\r\n",
        "2\N{VARIATION SELECTOR-16}\N{COMBINING ENCLOSING KEYCAP}",
        "\N{FULLWIDTH DIGIT TWO}",
        "\N{ARABIC-INDIC DIGIT TWO}",
        "\N{DEVANAGARI DIGIT TWO}",
        "\N{CIRCLED DIGIT TWO}",
        "\N{DINGBAT NEGATIVE CIRCLED SANS-SERIF DIGIT TWO}",
        "\N{ZERO WIDTH SPACE}2\N{RIGHT-TO-LEFT MARK}",
        "\N{BYTE ORDER MARK}2",
        "2\N{HANGUL FILLER}",
        "\N{NO-BREAK SPACE}2\N{EM SPACE}",
        "2 \N{THUMBS UP SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-4}",
        "2\N{NULL}",
        "2\ud83d",
        "dos",
        "DOS!",
        "la 2",
        "La 2.",
        "el 2",
        "la dos",
        "opción 2",
        "OPCION 2",
        "opción: 2",
        "opcion2",
        "la opción 2",
        "la opción dos",
        "opción número 2",
        "el número 2",
        "num 2",
        "nro 2",
        "Nro. 2",
        "n° 2",
        "nº 2",
        "N°2",
        "№ 2",
        "2ª",
        "2º",
        "02",
        "02.",
        "la 02",
        "2 gracias",
        "2, muchas gracias!",
        "la 2 por favor",
        "2 por favor, gracias",
        "quiero la 2",
        "Quiero la 2, por favor.",
        "quiero la dos",
        "quiero la opción 2",
        "quiero opción 2",
        "elijo la 2",
    ],
)
def test_a_number_is_heard_however_it_is_typed(text: str) -> None:
    heard = hear(text)
    assert (heard.intent, heard.code) == (Intent.CODE, "2")


def test_every_numeral_up_to_nine_is_a_number() -> None:
    words = ["uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve"]
    assert [hear(word).code for word in words] == list("123456789")


def test_every_numeral_up_to_ninety_nine_is_a_number() -> None:
    words = [
        "diez",
        "once",
        "doce",
        "trece",
        "catorce",
        "quince",
        "dieciseis",
        "diecisiete",
        "dieciocho",
        "diecinueve",
        "veinte",
        "veintiuno",
        "veintidos",
        "veintitres",
        "veinticuatro",
        "veinticinco",
        "veintiseis",
        "veintisiete",
        "veintiocho",
        "veintinueve",
        "treinta",
    ]
    assert [hear(word).code for word in words] == [str(n) for n in range(10, 31)]
    tens = ["treinta", "cuarenta", "cincuenta", "sesenta", "setenta", "ochenta"]
    for ten, words_of_ten in enumerate([*tens, "noventa"], start=3):
        assert hear(words_of_ten).code == f"{ten}0"
        assert hear(f"{words_of_ten} y siete").code == f"{ten}7"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Veintidós", "22"),
        ("la veintidós", "22"),
        ("opción once", "11"),
        ("ONCE.", "11"),
        ("Cuarenta y siete", "47"),
        ("22", "22"),
        ("2️⃣2️⃣", "22"),
        ("la 41", "41"),
        ("47.", "47"),
        ("90", "90"),
        ("9", "9"),
        ("10", "10"),
    ],
)
def test_two_digits_are_one_number(text: str, code: str) -> None:
    assert hear(text) == Heard(Intent.CODE, plain(text), code)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("primera", "1"),
        ("La primera.", "1"),
        ("la segunda opción", "2"),
        ("Segunda opción", "2"),
        ("opción tercera", "3"),
        ("el segundo", "2"),
        ("el 3ro", "3"),
        ("1ra", "1"),
        ("1era", "1"),
        ("la 2da!", "2"),
        ("4ta opción", "4"),
        ("5ta", "5"),
        ("sexta", "6"),
        ("séptima", "7"),
        ("la sétima", "7"),
        ("8va", "8"),
        ("9na", "9"),
        ("la décima", "10"),
    ],
)
def test_a_place_in_the_list_is_heard(text: str, place: str) -> None:
    assert hear(text) == Heard(Intent.PLACE, plain(text), place)


@pytest.mark.parametrize(
    "text",
    [
        "tengo 2 hijos",
        "Av. 11",
        "av 11",
        "2 de mayo",
        "2 2",
        "22 33",
        "1111",
        "222",
        "2/5",
        "2-5",
        "2.5",
        "2,5",
        "10:30",
        "2026-05-02",
        "1149998888",
        "+54 9 11 4999-8888",
        "2%",
        "$2",
        "€2",
        "+2",
        "@2",
        "2&",
        "2+1",
        "2x",
        "no 2",
        "2 hs",
        "22hs",
        "00",
        "002",
        "022",
        "quiero 2",
        "quiero 2 cursos",
        "quiero 2 por favor",
        "quiero el 2 de mayo",
        "quiero la 2da cuota",
        "quiero las 2",
        "no quiero la 2",
        "gracias 2",
        "2 gracias a vos",
        "dos hijos",
        "tengo once",
        "av once",
        "dos dos",
        "veintidos de mayo",
        "treinta uno",
        "cien",
        "opcion",
        "la",
        "el el 2",
        "primero",
        "segundo",
        "2do",
        "primera vez",
        "la segunda cuota",
        "primera segunda",
        "undecima",
        "la 11va",
        "½",
        "",
        " ",
        "...",
        "😊",
        "2" * 300,
        "x" + " " * 300 + "2",
    ],
)
def test_a_number_inside_something_else_selects_nothing(text: str) -> None:
    heard = hear(text)
    assert (heard.intent, heard.code) == (Intent.OTHER, "")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("MENU", ""),
        ("menú", ""),
        ("Menú!", ""),
        ("me\u0301nu", ""),
        ("*MENU*", ""),
        ("menu principal", ""),
        ("el menú", ""),
        ("ver el menú", ""),
        ("quiero el menu", ""),
        ("ir al menú", ""),
        ("volver al menú", ""),
        ("Volver al menú principal.", ""),
        ("quiero volver al menú", ""),
        ("inicio", ""),
        ("INICIO!", ""),
        ("ir al inicio", ""),
        ("volver al inicio", ""),
        ("MENÚ  PRINCIPAL", ""),
        ("\N{FULLWIDTH DIGIT ZERO}", "0"),
        ("0", "0"),
        ("0.", "0"),
        ("la 0", "0"),
    ],
)
def test_menu_is_heard_and_a_zero_is_told_apart(text: str, code: str) -> None:
    assert hear(text) == Heard(Intent.MENU, plain(text), code)


@pytest.mark.parametrize(
    "text",
    ["volver", "VOLVER", "Atrás", "ATRAS", "atrás.", "volver atrás"],
)
def test_the_way_back_is_heard(text: str) -> None:
    assert hear(text) == Heard(Intent.BACK, plain(text))


@pytest.mark.parametrize(
    "text",
    [
        "hola",
        "Hola!",
        "¡HOLA!",
        "holaa",
        "holaaaaaa!!",
        "ola",
        "holis",
        "buenas",
        "Buenas...",
        "buen día",
        "Buenos días",
        "buenos dias!",
        "buenas tardes",
        "buenas noches",
        "hi",
        "hey",
        "hello",
        "hellooo",
        "hola buenas tardes",
        "hola, qué tal",
        "Hola, ¿qué tal? ¿Cómo estás?",
        "hola como va todo bien",
        "¿Cómo están?",
        "que tal",
        "todo bien?",
        "¿Cómo les va?",
        "Hola chicas!",
        "buenas tardes a todos",
        "hola, buenas",
        "hola 👋🏽",
        "h\u200bola",
        "hola\ud83d",
    ],
)
def test_a_greeting_is_heard(text: str) -> None:
    assert hear(text) == Heard(Intent.GREETING, plain(text))


@pytest.mark.parametrize(
    "text",
    [
        "hola quiero info",
        "hola 2",
        "holaquetal",
        "chicas",
        "como van los cursos",
        "buenas tardes doctora",
        "la ola",
        "no hola",
        "menu 2",
        "el menu del día",
        "quiero volver",
        "volver a inscribirme",
        "inicio de clases",
        "el inicio",
        "no quiero el menu",
        "cuando es el inicio",
        "volver al inicio del curso",
        "atras de todo",
    ],
)
def test_a_command_inside_something_else_is_none(text: str) -> None:
    assert hear(text).intent is Intent.OTHER


@pytest.mark.parametrize(
    "text",
    [
        "quiero hablar con una persona",
        "Quiero hablar con una persona por favor",
        "persona",
        "PERSONA!",
        "una persona",
        "persona real",
        "un humano por favor",
        "por favor, un ser humano",
        "asesor",
        "asesora",
        "agente",
        "un agente",
        "operador",
        "necesito un asesor",
        "hablar con una persona",
        "hablar con asesora",
        "hablar con alguien",
        "¿Puedo hablar con alguien?",
        "necesito comunicarme con una asesora",
        "Hola, quisiera hablar con alguien, gracias",
        "buenas tardes quiero hablar con un humano",
        "quiero que me atienda alguien",
        "que me atienda una persona",
        "me puede atender alguien?",
        "pasame con un operador",
        "quiero hablar con otra persona",
        "atención humana",
    ],
)
def test_who_asks_for_a_person_is_heard(text: str) -> None:
    assert hear(text).intent is Intent.PERSON


@pytest.mark.parametrize(
    "text",
    [
        "soy agente de viajes y quiero info",
        "soy agente",
        "agente de viajes",
        "la persona que me atendió",
        "la persona",
        "otra persona",
        "quiero hablar con la persona que me atendió",
        "ya hablé con una persona",
        "hablé con una asesora",
        "me atiende una asesora",
        "no quiero hablar con una persona",
        "no hablar con asesora",
        "quiero inscribir a una persona",
        "es para otra persona",
        "quiero hablar con alguien que sepa de becas",
        "una persona mayor",
        "personas",
        "persona 2",
        "5 personas",
        "alguien",
        "alguien me estafó",
        "curso de agente inmobiliario",
        "trabajo de asesora",
        "asesoría",
        "quiero ser asesora",
        "quiero hablar",
        "hablar con",
    ],
)
def test_who_only_mentions_one_is_not(text: str) -> None:
    assert hear(text).intent is Intent.OTHER


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        *(
            (text, Intent.YES)
            for text in [
                "sí",
                "si",
                "SI!",
                "siii",
                "sisi",
                "sí sí",
                "dale",
                "daleee",
                "ok",
                "OK 👍",
                "okey",
                "esa",
                "sí, esa",
                "esa misma",
                "sí por favor",
                "si dale",
                "sí, gracias",
                "correcto",
            ]
        ),
        *(
            (text, Intent.NO)
            for text in [
                "no",
                "No.",
                "nooo",
                "nono",
                "no no",
                "no gracias",
                "no, esa no",
            ]
        ),
        *(
            (text, Intent.OTHER)
            for text in [
                "si no me ingresa",
                "si puedo mañana voy",
                "sino",
                "esa no",
                "ok pero cuánto sale",
                "no sé",
                "no puedo",
                "sí y no",
                "gracias",
                "okupa",
            ]
        ),
    ],
)
def test_yes_and_no_are_heard_as_whole_messages(text: str, intent: Intent) -> None:
    assert hear(text).intent is intent


@pytest.mark.parametrize(
    ("text", "is_menu"),
    [
        ("el menú", True),
        ("menú, gracias", True),
        ("volver al menú principal", True),
        ("inicio", False),
        ("volver al inicio 🙏", False),
        ("el menú del día", False),
    ],
)
def test_only_the_word_menu_takes_a_conversation_back(
    text: str,
    is_menu: bool,  # noqa: FBT001 -- a case, not a switch
) -> None:
    assert says_menu(text) is is_menu


def test_words_are_compared_without_case_accents_signs_and_emoji() -> None:
    assert plain("  💳 Transmisión / EN VIVO… ") == "transmision en vivo"
    assert plain("Straße ﬁn Ⓚ Ñandú") == "strasse fin k nandu"
    assert plain("100% @psi a&b") == "100% @psi a&b"
    assert plain("a\u00adb\u2060c") == "abc"


def test_a_long_text_is_no_command_and_is_not_looked_at() -> None:
    assert plain("a" * LONGEST) == "a" * LONGEST
    assert plain("a" * (LONGEST + 1)) == ""
    assert plain(" " * 5000 + "hola" + " " * 5000) == "hola"
    huge = "é2" * 5_000_000
    began = time.process_time()
    assert hear(huge) == Heard(Intent.OTHER, "")
    assert time.process_time() - began < 0.05  # to fold it takes seconds


def test_what_is_remembered_of_characters_is_bounded() -> None:
    from router.conversation import words

    for start in range(0x4E00, 0x4E00 + 6000, 100):
        text = "".join(map(chr, range(start, start + 100)))
        assert fold(text) == unicodedata.normalize("NFKD", text)
    assert len(words._FOLDED) == words._MOST_FOLDED
    assert fold("É") == "e"


@given(HOSTILE)
@settings(deadline=None)
def test_anything_can_be_heard(text: str) -> None:
    heard = hear(text)
    assert heard == hear(text)
    assert (heard.intent in {Intent.CODE, Intent.PLACE}) <= heard.code.isdecimal()
    assert heard.words == plain(text)
    assert priority_of([text]) in {"alta", "normal"}


@given(st.text(max_size=60))
@settings(deadline=None)
def test_folding_twice_is_folding_once(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@pytest.mark.parametrize(
    "text",
    [
        "URGENTE!!",
        "es urgente por favor",
        "tengo una urgencia",
        "me sale error",
        "errores en la página",
        "tengo un PROBLEMA con el pago",
        "hay problemas",
        "no funciona el campus",
        "el link no me funciona",
        "los videos no funcionan",
        "No puedo entrar",
        "no  puedo",
        "no pude pagar",
        "no me deja entrar",
        "no anda",
        "no nos dejan",
        "no\npuedo",
        "ⓤⓡⓖⓔⓝⓣⓔ",
        "a" * 1000 + " urgente",
    ],
)
def test_the_person_s_own_words_make_it_urgent(text: str) -> None:
    assert priority_of(["hola", text]) == "alta"


@pytest.mark.parametrize(
    "text",
    [
        "gracias",
        "2",
        "",
        "terrorista",
        "problemática infantil",
        "erróneo",
        "puedo pagar mañana",
        "no quiero",
        "funciona bien",
        "sin problema",
        "No hay problema, gracias",
        "ningún problema",
        "no tengo ningún problema",
        "no es urgente",
        "sin urgencia",
    ],
)
def test_other_words_do_not(text: str) -> None:
    assert priority_of([text]) == "normal"
    assert priority_of([]) == "normal"


def test_a_calm_word_does_not_hide_an_alarm() -> None:
    assert priority_of(["no hay problema, pero es urgente"]) == "alta"


def test_the_label_of_an_option_is_nobody_s_own_word() -> None:
    menu = packaged()
    labels = ["Problemas con la cuota", "problemas tecnicos", "46. Problemas técnicos"]
    assert priority_of(labels, menu) == "normal"
    assert priority_of(labels) == "alta"
    assert priority_of([*labels, "tengo problemas"], menu) == "alta"


def test_of_a_very_long_text_the_beginning_counts() -> None:
    assert priority_of(["x " * 900 + " urgente"]) == "alta"
    assert priority_of(["x " * 5000 + " urgente"]) == "normal"


@pytest.mark.parametrize(
    ("text", "intent", "code"),
    [
        ("Menú por favor", Intent.MENU, ""),
        ("volver atrás porfa", Intent.BACK, ""),
        ("por favor, 2", Intent.CODE, "2"),
        ("22 x favor!", Intent.CODE, "22"),
        ("la tercera por favor", Intent.PLACE, "3"),
        ("por favor", Intent.OTHER, ""),
        ("necesito 2 por favor", Intent.OTHER, ""),
    ],
)
def test_a_polite_word_takes_nothing_from_a_command(
    text: str, intent: Intent, code: str
) -> None:
    heard = hear(text)
    assert (heard.intent, heard.code) == (intent, code)
    assert says_menu(text) is (intent is Intent.MENU)
