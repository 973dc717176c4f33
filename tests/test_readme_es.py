"""README.es.md: the same commands, settings and modes as the papers in English."""

import re
from pathlib import Path

import pytest

from router.config import environment
from router.health import MODES

ROOT = Path(__file__).parents[1]
SPANISH = (ROOT / "README.es.md").read_text("utf-8")
ENGLISH = "\n".join(
    path.read_text("utf-8") for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))
)
PROGRAMS = (
    "sudo",
    "make",
    "psi-router",
    "systemctl",
    "journalctl",
    "timedatectl",
    "curl",
)


def commands(text: str) -> set[str]:
    """Return the lines of the shell blocks, and what stands in backticks like a command."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    inline = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
    words = [*lines, *(code for code in inline if code.split()[0] in PROGRAMS)]
    bare = (re.sub(r"\s+#.*", "", word).strip() for word in words)
    return {word for word in bare if word}


def test_there_are_commands_to_compare() -> None:
    assert len(commands(SPANISH)) > 15


@pytest.mark.parametrize("command", sorted(commands(SPANISH)))
def test_each_command_stands_in_the_english_papers_too(command: str) -> None:
    assert command in commands(ENGLISH)


def test_every_setting_that_is_named_is_read() -> None:
    known = Path(environment.__file__).read_text("utf-8")
    for name in set(re.findall(r"\b(?:PSI|WHATSAPP|CLOUD_API)_[A-Z_]+\b", SPANISH)):
        assert f'"{name}"' in known, name


def test_every_mode_that_somebody_must_act_on_is_explained() -> None:
    for mode in set(MODES) - {"starting", "stopping"}:
        assert f"| `{mode}` |" in SPANISH, mode


def test_every_link_leads_to_a_file_and_its_heading() -> None:
    for file, heading in re.findall(r"\]\(([\w./]+)(?:#([\w-]+))?\)", SPANISH):
        text = (ROOT / file).read_text("utf-8")
        slugs = {
            re.sub(r"[^\w -]", "", line.lstrip("# ")).lower().replace(" ", "-")
            for line in text.splitlines()
            if line.startswith("#")
        }
        assert not heading or heading in slugs, f"{file}#{heading}"
