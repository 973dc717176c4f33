"""`psi-router menu check`: what it says, and the status it ends with."""

import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from router.cli import main
from tests.test_menu import SMALL

PACKAGED = str(resources.files("router.conversation") / "psi.toml")


def written(directory: Path, text: str) -> str:
    file = directory / "menu.toml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_psi_s_menu_is_proved(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["menu", "check", PACKAGED]) == 0
    assert capsys.readouterr().out == "ok: 5 menus, 29 options\n"


def test_every_problem_is_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = SMALL.replace('"Clases"', '""').replace('"Ver"', '""')
    assert main(["menu", "check", written(tmp_path, broken)]) == 1
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "the file: button is empty",
        "option '11': title is empty",
    ]
    assert printed.err == ""


def test_a_file_that_is_no_menu_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["menu", "check", written(tmp_path, "")]) == 1
    assert "the file: menus is missing" in capsys.readouterr().out
    (tmp_path / "menu.toml").write_bytes(b"hint = '\xff'")
    assert main(["menu", "check", str(tmp_path / "menu.toml")]) == 1
    assert capsys.readouterr().out == "the file is no UTF-8: invalid start byte\n"


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_no_such_file_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["menu", "check", str(tmp_path / name)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("psi-router: '")


@pytest.mark.parametrize(
    "arguments", [["menu"], ["menu", "check"], ["menu", "show", "x"]]
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


def test_it_needs_no_server_and_loads_none() -> None:
    program = (
        "import sys; from router.cli import main;"
        f"status = main(['menu', 'check', {PACKAGED!r}]);"
        "sys.exit(status or bool({'aiohttp', 'asyncio', 'asyncpg'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
