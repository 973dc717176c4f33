"""The page /chat in a real Chromium: tapped, typed, with the rows beside it."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.chat_page import be_somebody_new, browsing, by_taps, say
from tests.devserver import Dev
from tests.servers import until

if TYPE_CHECKING:
    from playwright.async_api import Page


@pytest.fixture
async def page(chromium: Path, dev: Dev) -> AsyncIterator["Page"]:
    """The page, as somebody new, and no complaint of the browser at the end."""
    complaints: list[str] = []
    async with browsing(chromium, dev.url) as page:
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text))
        await be_somebody_new(page)
        yield page
    assert complaints == []


async def phone(page: "Page") -> str:
    return await page.get_by_label("Hablás como").input_value()


async def test_by_taps_from_hola_to_a_ticket_with_the_rows_beside_it(
    page: "Page", dev: Dev
) -> None:
    ticket = await by_taps(page)
    assert re.fullmatch(r"PSI-\d{4}-\d{6}", ticket)
    await page.get_by_role("log").get_by_text(ticket).wait_for()
    for card, words in {
        "#ticket": "Alumnos",
        "#derivation": "envios_alumnos",
        "#conversation": "derivada",
        "#contact": await phone(page),
        "#audit": "ticket_creado",
    }.items():
        await page.locator(card).get_by_text(words).first.wait_for()
    told = page.locator("#told li")
    await told.nth(3).wait_for()
    tags = await page.locator("#told .tag").all_inner_texts()
    assert sorted(tags) == ["ENVIOS · alumnos", *["INGESTA · wsp4"] * 3]
    assert await page.locator("#messages tr").count() == 6
    (found,) = await dev.fetch(
        "select ticket_id from tickets where telefono = $1", await phone(page)
    )
    assert found["ticket_id"] == ticket


async def test_typed_words_do_as_well_and_two_people_are_kept_apart(
    page: "Page",
) -> None:
    first, log = await phone(page), page.get_by_role("log")
    await say(page, "Hola")
    await log.get_by_text("Te damos la bienvenida").wait_for()
    assert await be_somebody_new(page) != first
    await say(page, "<b>5</b>")
    await log.get_by_text("Te damos la bienvenida").wait_for()
    assert "<b>5</b>" in await log.inner_text()  # text, never HTML
    await page.get_by_label("Hablás como").select_option(first)
    await log.get_by_text("Hola", exact=True).wait_for()
    assert "<b>5</b>" not in await log.inner_text()
    await page.locator("#contact").get_by_text(first).wait_for()


async def test_a_reload_shows_the_same_person_and_all_that_was_said(
    page: "Page",
) -> None:
    who = await phone(page)
    await say(page, "Hola")
    await page.get_by_role("log").get_by_text("Te damos la bienvenida").wait_for()
    await page.reload()
    await page.get_by_role("log").get_by_text("Te damos la bienvenida").wait_for()
    assert await phone(page) == who
    assert await page.get_by_role("log").get_by_text("Hola", exact=True).count() == 1


async def test_with_the_keyboard_alone_the_list_opens_and_closes(page: "Page") -> None:
    await page.get_by_role("textbox", name="Mensaje").focus()
    await page.keyboard.type("Hola")
    await page.keyboard.press("Enter")
    options = page.get_by_role("button", name="Ver opciones")
    await options.focus()
    await page.keyboard.press("Enter")
    await page.get_by_role("dialog").wait_for()
    await page.keyboard.press("Escape")
    await page.get_by_role("dialog").wait_for(state="hidden")

    async def is_back() -> bool:
        focused = await options.evaluate("it => it === document.activeElement")
        return bool(focused)

    await until(is_back)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
async def test_nothing_runs_over_the_edge_and_everything_can_be_read(
    chromium: Path, dev: Dev, scheme: str, width: int
) -> None:
    view = {"width": width, "height": 800}
    async with browsing(chromium, dev.url, viewport=view, color_scheme=scheme) as page:
        await be_somebody_new(page)
        await by_taps(page)
        await page.locator("#told li").nth(3).wait_for()
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        assert await page.evaluate(PALE) == []


# WCAG 2.2, 1.4.3: every text has a contrast of 4.5 to what is behind it.
PALE = """() => {
  const rgb = (css) => css.match(/[0-9.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b]
    .map((x) => x / 255).map((x) => x <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4)
    .reduce((sum, x, at) => sum + x * [.2126, .7152, .0722][at], 0);
  const behind = (it) => {
    for (; it; it = it.parentElement) {
      const colour = rgb(getComputedStyle(it).backgroundColor);
      if (colour[3] === undefined || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const seen = [...document.querySelectorAll('body *')].filter((it) =>
    it.checkVisibility() && [...it.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));
  return seen.filter((it) => {
    const [a, b] = [light(rgb(getComputedStyle(it).color)), light(behind(it))];
    return (Math.max(a, b) + .05) / (Math.min(a, b) + .05) < 4.5;
  }).map((it) => `${it.tagName} ${it.className} ${it.textContent}`);
}"""
