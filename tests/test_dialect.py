"""The words of databases: read both ways, and none that an inbox does not show."""

import pytest

from router.conversation.menu import packaged
from router.conversation.state import MAIN_AREA
from router.errors import ConfigError
from router.stages.desk import NAMES
from router.store import dialect as dialects
from router.store import sql_files
from router.store.dialect import WORDS, Dialect, load, names, parse

PROFILES = [load(name) for name in names()]


@pytest.fixture(params=PROFILES, ids=lambda profile: profile.name)
def profile(request: pytest.FixtureRequest) -> Dialect:
    found: Dialect = request.param
    return found


def test_both_profiles_are_packaged() -> None:
    assert names() == ("crm-2026", "plan")


def test_the_plan_translates_nothing() -> None:
    plan = load("plan")
    assert plan.is_plain
    for name in ("record", "lookup", "derive", "tickets"):
        assert plan.sql(name) is sql_files.sql(name)


def test_every_word_is_read_as_it_was_written(profile: Dialect) -> None:
    for group, words in WORDS.items():
        written = [profile.write(group, word) for word in words]
        assert [profile.read(group, word) for word in written] == list(words)
        assert len(set(written)) == len(words)


def test_every_area_is_one_that_an_inbox_shows(profile: Dialect) -> None:
    areas = {MAIN_AREA, *NAMES, *WORDS["area"]}
    shown = {area for inbox in profile.inboxes.values() for area in inbox}
    shows_all = any(not inbox for inbox in profile.inboxes.values())
    for area in areas:
        word = profile.write("area", area)
        own = [inbox for inbox, those in profile.inboxes.items() if word in those]
        assert own or shows_all, area
        if area != MAIN_AREA:
            assert word in shown, area


def test_the_menu_hands_over_to_areas_of_the_dialect() -> None:
    options = [o for page in packaged().pages.values() for o in page.options]
    areas = {option.area for option in options if option.area}
    assert areas
    assert areas <= set(WORDS["area"])


# What the CRM of January 2026 filters and shows by (papers on the predecessor, 3.2-3.7).
CRM = {
    "area": {"wsp4", "admin", "alumnos", "ventas", "ventas_api", "comunidad"},
    "estado": {"nueva", "activa", "esperando", "resuelta", "cerrada", "derivada"},
    "remitente_tipo": {"contacto", "sistema", "agente"},
    "direccion": {"entrante", "saliente"},
    "tipo": {"text", "image", "audio", "video", "document", "location", "contact"}
    | {"sticker"},
}


@pytest.mark.parametrize("group", list(CRM))
def test_the_crm_of_2026_knows_every_word_that_is_written(group: str) -> None:
    crm = load("crm-2026")
    assert {crm.write(group, word) for word in WORDS[group]} <= CRM[group]


def test_menus_are_submenus_and_hand_overs_derived() -> None:
    crm = load("crm-2026")
    pairs = {"principal": "menu_principal", "7": "submenu_7", "derivada": "derivado"}
    for word, table in pairs.items():
        assert crm.write("router_estado", word) == table
        assert crm.read("router_estado", table) == word


def test_what_others_write_is_read_too() -> None:
    crm = load("crm-2026")
    assert crm.read("area", "ventas_api") == "Ventas"
    assert crm.read("estado", "derivada") == "derivada"
    assert (crm.read("area", None), crm.write("estado_envio", None)) == (None, None)


def test_marked_words_of_statements_are_the_table_s() -> None:
    text = '[derivacion_estado]\nenviada = "completada"\n[estado]\ncerrada = "fin"\n'
    mine = parse("mine", text)
    assert "'completada'" in mine.sql("derive")
    assert "v.estado <> 'fin'" in mine.sql("lookup")
    assert "'cerrada'" not in mine.sql("lookup")


def test_every_mark_in_a_statement_names_a_word() -> None:
    from importlib import resources

    for path in (resources.files("router.store") / "sql").iterdir():
        for group, word in dialects._MARKED.findall(path.read_text("utf-8")):
            assert word in WORDS[group], path.name


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[areas]\nVentas = "x"', "areas"),
        ('[area]\nVenta = "x"', "Venta"),
        ('[area]\nVentas = "x"\nAlumnos = "x"', "become one"),
        ('[area]\nVentas = "Alumnos"', "become one"),
    ],
)
def test_a_profile_that_cannot_be_meant_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        parse("bad", text)


def test_an_unknown_profile_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="crm-2026, plan"):
        load("../plan")
