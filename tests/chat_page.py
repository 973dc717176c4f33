"""The page /chat in a real Chromium; run as a script, it takes the README's picture.

python -m tests.chat_page docs/chat.png
"""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.devserver import Dev
from tests.servers import until

if TYPE_CHECKING:
    from playwright.async_api import Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
VIEW = {"width": 1280, "height": 880}


def chromium_program() -> Path | None:
    """Return where a Chromium is."""
    return next((Path(found) for name in NAMES if (found := shutil.which(name))), None)


@asynccontextmanager
async def browsing(program: Path, url: str, **how: Any) -> AsyncIterator["Page"]:
    """Lend the page /chat of *url*, connected; *how* are Playwright's options of a page."""
    from playwright.async_api import async_playwright

    # Chromium's sandbox refuses root, and is no part of what is tested.
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with (
        async_playwright() as playwright,
        await playwright.chromium.launch(
            executable_path=program, args=flags
        ) as browser,
        await browser.new_page(**{"viewport": VIEW, "locale": "es-AR", **how}) as page,
    ):
        await page.goto(f"{url}/chat")
        await page.get_by_text("Conectado").wait_for()
        yield page


async def be_somebody_new(page: "Page") -> str:
    """Press "Nueva persona"; return the phone of whoever talks from now on."""
    who = page.get_by_label("Hablás como")
    before = await who.input_value()
    await page.get_by_role("button", name="Nueva persona").click()

    async def changed() -> bool:
        return await who.input_value() != before

    await until(changed)
    return await who.input_value()


async def say(page: "Page", words: str) -> None:
    """Type *words* and send them."""
    await page.get_by_role("textbox", name="Mensaje").fill(words)
    await page.get_by_role("button", name="Enviar").click()


async def tap(page: "Page", row: str) -> None:
    """Open the last list that came, and tap the row that begins with *row*."""
    await page.get_by_role("button", name="Ver opciones").last.click()
    await page.get_by_role("dialog").get_by_role("button", name=row).click()


async def by_taps(page: "Page") -> str:
    """Say hello, tap through the menu to the classes of Alumnos; return the ticket."""
    log = page.get_by_role("log")
    await say(page, "Hola")
    await log.get_by_text("Te damos la bienvenida").wait_for()
    await tap(page, "Alumnos")
    await log.get_by_text("tenerte cursando").wait_for()
    await tap(page, "Clases y cronograma")
    ticket = page.locator("#ticket .big")
    await ticket.wait_for()
    return await ticket.inner_text()


async def picture(program: Path, target: Path) -> None:
    """Save what the page shows after `by_taps`."""
    with tempfile.TemporaryDirectory() as directory:
        async with (
            Dev.running(Path(directory)) as dev,
            browsing(program, dev.url, color_scheme="light") as page,
        ):
            await by_taps(page)
            await page.get_by_text("ENVIOS · alumnos").wait_for()
            rows = page.locator("#messages tr", has_text="✓✓ leído")
            await rows.nth(2).wait_for()
            await page.screenshot(path=target)


def main() -> int:
    program = chromium_program()
    if program is None:
        sys.stderr.write("needs a browser: apt-get install chromium\n")
        return 69
    asyncio.run(picture(program, Path(sys.argv[1])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
