"""A menu: what is read, what is refused, and what it looks like on a phone."""

import functools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.conversation import limits, replies
from router.conversation.check import checked, problems
from router.conversation.menu import Menu, MenuError, Option, packaged
from router.errors import ConfigError
from router.model import Choice, Reply

HEAD = """
button = "Ver"
prompt = "Elegí"
leave = "VOLVER"
back = "Atrás"
hint = "¿Cómo?"
confirmation = "{name}: {option}, {ticket}, en {wait}"
"""
MENUS = """
[menus.principal]
text = "Hola"
options = [
  { code = "1", title = "Uno más" },
  { code = "2", title = "Ventas", area = "Ventas", subetiqueta = "v", wait = "1 hora" },
]
[menus.1]
text = "Lista"
area = "Alumnos"
wait = "2 horas"
options = [
  { code = "11", title = "Clases", subetiqueta = "clases", description = "Días" },
  { code = "12", title = "Pagos", subetiqueta = "pagos", area = "Ventas", name = "Caja" },
]
"""
SMALL = HEAD + MENUS

CODES = (
    "1 2 3 4 5 11 12 13 14 15 21 22 23 24 25 26 31 32 33 34 35 36 41 42 43 44 45 46 47"
)
SUBETIQUETAS = {
    "Administración": "pagos cuota facturas certificados otro",
    "Alumnos": "campus clases recursos certificados duda otro",
    "Inscripciones": "vigentes inscripcion pagos modalidades promos asesora",
    "Comunidad PSI y En Vivo": (
        "acceso calendario transmision grabaciones recursos tecnico otro"
    ),
}
AREAS = "Administración, Alumnos, Comunidad, Ventas"
PLACES = "name, option, wait, ticket"
WAITS = {
    "Administración": "2 a 4 horas",
    "Alumnos": "1 a 2 horas",
    "Ventas": "30 minutos a 1 hora",
    "Comunidad": "1 a 2 horas",
}


def refused(text: str) -> tuple[str, ...]:
    with pytest.raises(MenuError) as caught:
        Menu.load(text)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def changed(*pairs: tuple[str, str]) -> str:
    """Return the small menu with each first text replaced by the second."""
    text = SMALL
    for old, new in pairs:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def found(*pairs: tuple[str, str]) -> list[str]:
    return problems(Menu.load(changed(*pairs)))


# --- PSI's own


def test_psi_s_menu_has_no_problem_and_is_read_once() -> None:
    assert problems(packaged()) == []
    assert packaged() is packaged()


def test_psi_s_tree_is_whole() -> None:
    menu = packaged()
    assert sorted(menu.coded) == sorted(CODES.split())
    assert list(menu.pages) == ["principal", "1", "2", "3", "4"]
    assert [option.title for option in menu.main.options] == [
        *SUBETIQUETAS,
        "Otra consulta",
    ]
    for page in list(menu.pages.values())[1:]:
        words = " ".join(option.subetiqueta for option in page.options)
        assert words == SUBETIQUETAS[page.title]
        assert page.parent == "principal"


def test_inscripciones_and_otra_consulta_are_ventas() -> None:
    menu = packaged()
    assert {option.area for option in menu.pages["3"].options} == {"Ventas"}
    other = menu.coded["5"]
    assert (other.area, other.subetiqueta) == ("Ventas", "otra_consulta")
    assert menu.opened_by(other) is None
    areas = [menu.pages[code].options[0].area for code in "124"]
    assert areas == ["Administración", "Alumnos", "Comunidad"]


def test_every_derivation_says_how_long_it_takes_and_has_one_ticket() -> None:
    for option in packaged().options():
        if option.area:
            text = replies.confirmation(option).text
            assert WAITS[option.area] == option.wait
            assert option.wait in text
            assert text.count("{ticket}") == 1
            assert f"- {option.title}*" in text
            assert "{" not in text.replace("{ticket}", "")


def test_the_confirmation_calls_the_area_by_the_name_that_was_chosen() -> None:
    menu = packaged()
    assert "*Inscripciones - Promos y becas*" in menu.coded["35"].confirmation
    assert "*Alumnos - Clases y cronograma*" in menu.coded["22"].confirmation
    assert "*PSI - Otra consulta*" in menu.coded["5"].confirmation


@pytest.mark.parametrize("code", ["principal", "1", "2", "3", "4"])
def test_every_list_goes_out_as_a_list_and_as_whole_text(code: str) -> None:
    menu = packaged()
    page = menu.page(code)
    for reply in (replies.submenu(menu, code), replies.hint(menu, code)):
        rows = [choice.id for choice in reply.choices]
        assert rows == [option.code for option in page.options] + (
            [] if code == "principal" else ["volver"]
        )
        assert limits.fits_a_list(reply)
        assert reply.body in {page.text, menu.hint}
        assert reply.text.startswith(reply.body)
        assert reply.button == menu.button
        for option in page.options:
            assert f"\n*{option.code}.* {option.title}\n" in reply.text + "\n"
        assert ("VOLVER" in reply.text) == (code != "principal")
        assert menu.prompt in reply.text


def test_the_main_menu_is_the_first_list_and_the_hint_is_no_greeting() -> None:
    menu = packaged()
    assert replies.main_menu(menu) == replies.submenu(menu, "principal")
    assert replies.main_menu(menu).body == menu.main.text
    hint = replies.hint(menu, None)
    assert hint.body == menu.hint
    assert menu.main.text not in hint.text


# --- reading


def test_a_file_is_read_as_it_says() -> None:
    menu = checked(SMALL)
    assert menu.coded["11"] == Option(
        code="11",
        title="Clases",
        description="Días",
        area="Alumnos",
        subetiqueta="clases",
        wait="2 horas",
        confirmation="Alumnos: Clases, {ticket}, en 2 horas",
    )
    assert menu.coded["12"].area == "Ventas"
    assert menu.coded["12"].confirmation == "Caja: Pagos, {ticket}, en 2 horas"
    opener = menu.coded["1"]
    assert opener == Option(
        code="1",
        title="Uno más",
        description="",
        area="",
        subetiqueta="",
        wait="",
        confirmation="",
    )
    assert menu.main.title == ""
    assert menu.opened_by(opener) is menu.pages["1"]
    assert menu.pages["1"].title == "Uno más"
    assert menu.page_with(menu.coded["11"]) is menu.pages["1"]
    assert menu.page_with(menu.coded["2"]) is menu.main
    assert replies.main_menu(menu) == Reply(
        text="Hola\n\n*1.* Uno más\n*2.* Ventas\n\nElegí",
        body="Hola",
        button="Ver",
        choices=(Choice(id="1", title="Uno más"), Choice(id="2", title="Ventas")),
    )
    assert replies.hint(menu, "1") == Reply(
        text="¿Cómo?\n\n*11.* Clases\n*12.* Pagos\n\nElegí\nVOLVER",
        body="¿Cómo?",
        button="Ver",
        choices=(
            Choice(id="11", title="Clases", description="Días"),
            Choice(id="12", title="Pagos"),
            Choice(id="volver", title="Atrás"),
        ),
    )


@pytest.mark.parametrize(
    "word",
    [None, "", "principal", "menu_principal", "PSI Principal", "submenu_9", "9", "1 "],
)
def test_an_unknown_word_is_the_main_menu(word: str | None) -> None:
    assert packaged().page(word) is packaged().main


@pytest.mark.parametrize("word", ["2", "submenu_2"])
def test_an_older_router_s_word_names_the_same_list(word: str) -> None:
    assert packaged().page(word).code == "2"


def test_a_title_is_found_in_its_list_or_where_it_is_the_only_one() -> None:
    menu = packaged()
    assert menu.pages["2"].titled["otra consulta"].code == "26"
    assert menu.pages["2"].titled["26 otra consulta"].code == "26"
    assert "otra consulta" not in menu.titled
    assert menu.titled["recursos"].code == "45"
    assert menu.titled["facturas comprobantes"].code == "13"


@pytest.mark.parametrize(
    ("page", "code"),
    [("principal", "5"), ("1", "15"), ("2", "26"), ("3", "36"), ("4", "47")],
)
def test_each_of_psi_s_lists_has_an_option_for_a_person(page: str, code: str) -> None:
    menu = packaged()
    option = menu.person(menu.pages[page])
    assert option is menu.coded[code]
    assert option in menu.pages[page].options


def test_a_list_without_an_option_for_a_person_leaves_it_to_the_main_one() -> None:
    assert Menu.load(SMALL).person(Menu.load(SMALL).main) is None
    menu = checked(changed(('text = "Hola"', 'text = "Hola"\nperson = "2"')))
    assert menu.person(menu.main) == menu.person(menu.pages["1"]) == menu.coded["2"]
    both = checked(
        changed(
            ('text = "Hola"', 'text = "Hola"\nperson = "2"'),
            ('text = "Lista"', 'text = "Lista"\nperson = "12"'),
        )
    )
    assert both.person(both.pages["1"]) == both.coded["12"]


def test_a_title_of_which_nothing_can_be_typed_is_never_typed() -> None:
    menu = Menu.load(changed(('"Clases"', '"😊"')))
    assert "" not in menu.titled
    assert "" not in menu.pages["1"].titled


def test_a_menu_of_three_levels_is_one_too() -> None:
    deeper = SMALL + (
        '[menus.11]\ntext = "Más"\narea = "Alumnos"\nwait = "1 h"\n'
        'options = [{ code = "13", title = "Fin", subetiqueta = "f" }]\n'
    )
    menu = checked(deeper.replace('subetiqueta = "clases", ', ""))
    assert menu.pages["11"].parent == "1"
    assert menu.pages["11"].title == "Clases"


def test_a_list_that_cannot_be_read_hides_no_other() -> None:
    bad = 'button = ""\n[menus]\na = 1\nb = 2'
    assert {"menu 'a': it is no table", "menu 'b': it is no table"} < set(refused(bad))


def test_all_problems_of_form_are_said_at_once() -> None:
    assert refused(
        "button = 1\nhint = 'a{b'\nextra = 1\nabove = 1\n[menus.x]\nfoo = 1"
    ) == (
        "the file: unknown key 'above'",
        "the file: unknown key 'extra'",
        "the file: prompt is missing",
        "the file: leave is missing",
        "the file: back is missing",
        "the file: confirmation is missing",
        "the file: button must be a text in quotes",
        "the file: hint has a brace",
        "menu 'x': unknown key 'foo'",
        "menu 'x': text is missing",
        "menu 'x': options is missing",
        "the file: there is no menu principal",
    )


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('button = "Ver"', 'button = "Ver', "the file is no TOML: "),
        ('button = "Ver"', "button = " + "[" * 9999, "the file is no TOML: "),
        (MENUS, "", "the file: menus is missing"),
        (MENUS, "menus = []", "the file: menus is missing"),
        (MENUS, "[menus]\nprincipal = 1", "menu 'principal': it is no table"),
        ('code = "11", ', "", "menu '1', option 1: code is missing"),
        (
            'code = "11"',
            "code = 11",
            "menu '1', option 1: code must be a text in quotes",
        ),
        ('"Clases"', '"Cla{ses"', "menu '1', option 1: title has a brace"),
        ('"2 horas"', '"{ticket}"', "menu '1': wait has a brace"),
        ('title = "Pagos"', "titulo = 1", "menu '1', option 2: unknown key 'titulo'"),
        ('title = "Pagos", ', "", "menu '1', option 2: title is missing"),
        ("{ticket}", "", "the file: confirmation needs {ticket} exactly once"),
        (
            "{ticket}",
            "{ticket} {ticket}",
            "the file: confirmation needs {ticket} exactly once",
        ),
        ("{wait}", "{ticket", "the file: confirmation has a brace too many"),
        (
            "hint = ",
            "meant = '{code} {ticket}'\nhint = ",
            "the file: meant has a place 'ticket'; there are code, title",
        ),
        (
            "hint = ",
            "meant = '{code}}'\nhint = ",
            "the file: meant has a brace too many",
        ),
        (
            "{wait}",
            "{espera}",
            f"the file: confirmation has a place 'espera'; there are {PLACES}",
        ),
        ("[menus.principal]", "[menus.main]", "the file: there is no menu principal"),
        (
            '{ code = "1", title = "Uno más" }',
            '"1"',
            "menu 'principal', option 1: it is no table",
        ),
        ('text = "Lista"', "", "menu '1': text is missing"),
        (
            'text = "Lista"',
            'text = "Lista"\nperson = true',
            "menu '1': person must be a text in quotes",
        ),
    ],
)
def test_a_file_that_is_no_menu_is_refused(old: str, new: str, problem: str) -> None:
    assert any(line.startswith(problem) for line in refused(changed((old, new))))


def test_a_menu_that_cannot_be_read_means_wrong_settings() -> None:
    assert issubclass(MenuError, ConfigError)


# --- proving


def test_a_small_menu_can_be_used() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"Ver"', '""', "the file: button is empty"),
        ('"Ver"', f'"{"x" * 21}"', "the file: button has 21 characters, at most 20"),
        ('"Atrás"', '" "', "the file: back is empty"),
        ('"Atrás"', f'"{"x" * 25}"', "the file: back has 25 characters, at most 24"),
        ('"Elegí"', '""', "the file: prompt is empty"),
        ('"VOLVER"', '""', "the file: leave is empty"),
        ('"¿Cómo?"', '""', "the file: hint is empty"),
        ('"¿Cómo?"', f'"{"x" * 1025}"', "the file: hint has 1025 characters, at most 1024"),
        (
            "hint = ",
            f"meant = '{{title}} {'x' * 4050}'\nhint = ",
            "menu '1': the whole has 4097 characters, at most 4096",
        ),
        ('"Lista"', '""', "menu '1': text is empty"),
        ('"Hola"', f'"{"x" * 1025}"', "menu 'principal': text has 1025 characters, at most 1024"),
        ('"Clases"', '""', "option '11': title is empty"),
        ('"Clases"', f'"{"x" * 25}"', "option '11': title has 25 characters, at most 24"),
        (
            '"Clases"',
            f'"{"😊" * 12}x"',
            "option '11': title has 25 characters, at most 24",
        ),
        ('"Días"', f'"{"x" * 73}"', "option '11': description has 73 characters, at most 72"),
        ('"Clases"', '"PAGOS!"', "option '11': another one of menu '1' has its title"),
        ('"Clases"', '"PAGOS!"', "option '12': another one of menu '1' has its title"),
        ('"Clases"', '"Menú"', "option '11': its title is heard as something else"),
        ('"Clases"', '"Volver"', "option '11': its title is heard as something else"),
        ('"Clases"', '"Hola"', "option '11': its title is heard as something else"),
        ('"Clases"', '"La 2"', "option '11': its title is heard as something else"),
        ('"Clases"', '"😊"', "option '11': its title is heard as something else"),
        ('"clases"', '""', "option '11': subetiqueta is empty"),
        ('"2 horas"', '""', "option '11': wait is empty"),
        ('code = "11"', 'code = "0"', "option '0': a code has one or two digits, and no 0 in front"),
        ('code = "11"', 'code = "07"', "option '07': a code has one or two digits, and no 0 in front"),
        ('code = "11"', 'code = "111"', "option '111': a code has one or two digits, and no 0 in front"),
        ('code = "11"', 'code = "MENU"', "option 'MENU': a code has one or two digits, and no 0 in front"),
        ('code = "11"', 'code = "\N{FULLWIDTH DIGIT ONE}"', "option '\\uff11': a code has one or two digits, and no 0 in front"),
        ('code = "11"', 'code = "12"', "option '12': there are 2 options with this code"),
        ('code = "11"', 'code = "2"', "option '2': there are 2 options with this code"),
        (
            'area = "Alumnos"',
            'area = "Alumnas"',
            f"option '11': area 'Alumnas' is none of {AREAS}",
        ),
        ('area = "Alumnos"', "", f"option '11': area '' is none of {AREAS}"),
        (
            'title = "Uno más"',
            'title = "Uno más", area = "Ventas"',
            "option '1': it opens a menu, and has an area as well",
        ),
        ('"Uno más"', f'"{"x" * 25}"', "menu '1': title has 25 characters, at most 24"),
        ("[menus.1]", "[menus.8]", "menu '8': no option opens it"),
        (
            'text = "Hola"',
            'text = "Hola"\nperson = "1"',
            "menu 'principal': person '1' is none of its options that hand over",
        ),
        (
            'text = "Hola"',
            'text = "Hola"\nperson = "11"',
            "menu 'principal': person '11' is none of its options that hand over",
        ),
        (
            'text = "Lista"',
            'text = "Lista"\nperson = "2"',
            "menu '1': person '2' is none of its options that hand over",
        ),
        ('"{name}: ', f'"{"x" * 4097}{{name}}: ', "option '11': confirmation has 4134 characters, at most 4096"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(old: str, new: str, problem: str) -> None:
    assert problem in found((old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"Ver"', f'"{"x" * 20}"'),
        ('"Atrás"', f'"{"x" * 24}"'),
        ('"Clases"', f'"{"x" * 24}"'),
        ('"Clases"', f'"{"😊" * 11}ab"'),
        ('"Días"', f'"{"x" * 72}"'),
        ('"Lista"', f'"{"x" * 1024}"'),
        ('"¿Cómo?"', f'"{"x" * 1024}"'),
        ('"Clases"', '"Hablar con asesora"'),
        ('"Clases"', '"No"'),
        ('code = "11"', 'code = "99"'),
        ('code = "11"', 'code = "10"'),
    ],
)
def test_what_is_just_within_the_limits_can_be_used(old: str, new: str) -> None:
    menu = Menu.load(changed((old, new)))
    assert problems(menu) == []
    assert all(replies.submenu(menu, code).choices for code in menu.pages)


def test_a_list_without_options_is_a_dead_end() -> None:
    text = HEAD + '[menus.principal]\ntext = "Hola"\noptions = []\n'
    assert problems(Menu.load(text)) == ["menu 'principal': it has no options"]


def test_a_list_that_only_opens_itself_is_not_reached() -> None:
    text = SMALL + '[menus.9]\ntext = "x"\noptions = [{ code = "9", title = "Otra" }]\n'
    assert problems(Menu.load(text)) == [
        "menu '9': no option opens it",
        "menu '9': none of its options leads to a person",
    ]


def test_the_problems_of_a_menu_refuse_it() -> None:
    with pytest.raises(MenuError) as caught:
        checked(changed(('"Ver"', '""'), ('"Atrás"', '""')))
    assert caught.value.problems == (
        "the file: button is empty",
        "the file: back is empty",
    )


def crowded(rows: int) -> str:
    options = "".join(
        f'{{ code = "{20 + n}", title = "Opción {chr(97 + n)}", subetiqueta = "x" }},\n'
        for n in range(rows)
    )
    return HEAD + (
        '[menus.principal]\ntext = "Hola"\noptions = [{ code = "1", title = "Todo" }]\n'
        f'[menus.1]\ntext = "Todo"\narea = "Ventas"\nwait = "1 h"\noptions = [{options}]\n'
    )


@pytest.mark.parametrize(("rows", "back"), [(9, True), (10, False)])
def test_ten_rows_are_a_list_and_the_row_back_is_one_of_them(
    rows: int,
    back: bool,  # noqa: FBT001 -- a case, not a switch
) -> None:
    menu = checked(crowded(rows))
    ids = [choice.id for choice in replies.submenu(menu, "1").choices]
    assert len(ids) == 10
    assert ("volver" in ids) is back


def test_a_list_of_more_rows_falls_back_to_text_that_has_them_all() -> None:
    menu = Menu.load(crowded(11))
    assert problems(menu) == ["menu '1': it has 11 options, at most 10"]
    for reply in (replies.submenu(menu, "1"), replies.hint(menu, "1")):
        assert (reply.choices, reply.body, reply.button) == ((), "", "")
        assert all(f"*{20 + n}.*" in reply.text for n in range(11))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"Ver"', f'"{"x" * 21}"'),
        ('"Ver"', '""'),
        ('"Clases"', f'"{"x" * 25}"'),
        ('"Clases"', '""'),
        ('"Días"', f'"{"x" * 73}"'),
        ('"Lista"', f'"{"x" * 1025}"'),
        ('"Lista"', '""'),
    ],
)
def test_whatever_whatsapp_would_refuse_as_a_list_goes_out_as_text(
    old: str, new: str
) -> None:
    menu = Menu.load(changed((old, new)))
    assert replies.submenu(menu, "1").choices == ()


def test_a_list_of_no_rows_is_none() -> None:
    reply = Reply(text="x", body="x", button="x", choices=(Choice(id="1", title="x"),))
    assert limits.fits_a_list(reply)
    assert not limits.fits_a_list(Reply(text="x", body="x", button="x"))


def test_a_text_over_what_whatsapp_takes_is_named() -> None:
    rows = "\n".join(
        f'{{ code = "{n}", title = "{n} {"x" * 40}", area = "Ventas" }},'
        for n in range(10, 99)
    )
    text = HEAD + f'[menus.principal]\ntext = "{"x" * 1024}"\noptions = [{rows}]\n'
    whole = [p for p in problems(Menu.load(text)) if "the whole" in p]
    assert len(whole) == 2
    form = r"menu 'principal': the whole has \d+ characters, at most 4096"
    assert all(re.fullmatch(form, problem) for problem in whole)


@pytest.mark.parametrize(("text", "size"), [("\uffff", 1), ("\U00010000", 2), ("", 0)])
def test_a_character_beyond_the_first_plane_is_two(text: str, size: int) -> None:
    assert limits.size(text) == size


@given(st.text(max_size=50))
@settings(deadline=None)
def test_characters_are_counted_as_utf_16_does(text: str) -> None:
    assert limits.size(text) == len(text.encode("utf-16-le")) // 2


@functools.cache
def mutations() -> st.SearchStrategy[str]:
    text = st.text(st.characters(codec="utf-8"), max_size=40)
    lines = SMALL.splitlines()
    return st.builds(
        lambda at, new: "\n".join([*lines[:at], new, *lines[at + 1 :]]),
        st.integers(0, len(lines) - 1),
        text | st.sampled_from(lines),
    )


@given(mutations())
@settings(deadline=None)
def test_any_text_is_a_menu_or_one_menu_error(text: str) -> None:
    try:
        menu = checked(text)
    except MenuError as exc:
        said = str(exc)
    else:
        said = replies.main_menu(menu).text
        assert all(replies.submenu(menu, code).choices for code in menu.pages)
    assert said
