"""`psi-router install` on a staged tree, and what it refuses."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from router.cli import main
from router.cli.environment import SETTINGS
from router.cli.machine import (
    CURRENT,
    KEPT_RELEASES,
    PREVIOUS,
    UNITS,
    forget_old_releases,
    make_current,
    release_before,
    running_release,
    settings_problems,
)
from router.cli.release import RELEASES, SHARE, Tree, name

ROOT = Path(__file__).parents[1]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def pretend(tree: Tree, version: str, at: float) -> Path:
    """Put the units of a release there, without its environment."""
    release = RELEASES / version
    units = tree.at(release) / SHARE / "systemd"
    units.mkdir(parents=True)
    for unit in UNITS:
        (units / unit).write_text(f"of {version}\n")
    os.utime(tree.at(release), (at, at))
    return release


def test_the_tree_is_whole_and_says_where_it_will_be(staged: Path) -> None:
    tree = Tree(staged)
    release = running_release(tree)
    assert release is not None
    assert tree.at(release).is_dir()
    script = (tree.at(release) / "bin/psi-router").read_text()
    assert script.startswith(f"#!{release}/bin/python\n")
    for unit, path in UNITS.items():
        assert tree.at(path).read_text() == (ROOT / "systemd" / unit).read_text()
    assert str(staged) not in (tree.at(release) / "pyvenv.cfg").read_text()
    link = staged / "usr/local/bin/psi-router"
    assert link.readlink() == CURRENT / "bin/psi-router"


def test_the_release_runs_by_itself_and_knows_its_revision(
    staged: Path, tmp_path: Path
) -> None:
    release = running_release(Tree(staged))
    assert release is not None
    place = Tree(staged).at(release)
    code = "import router, sys; from router.cli.running import commit; "
    code += "print(router.__file__, commit())"
    done = subprocess.run(
        [place / "bin/python", "-c", code],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    file, commit = done.stdout.split()
    assert Path(file).is_relative_to(place)
    assert commit == (place / "REVISION").read_text().strip()


def test_settings_are_root_s_alone_and_never_written_over(staged: Path) -> None:
    settings = Tree(staged).at(SETTINGS)
    assert stat.S_IMODE(settings.stat().st_mode) == 0o600
    assert "WHATSAPP_APP_SECRET is not set" in settings_problems(Tree(staged))
    before = settings.read_text()
    settings.write_text("DATABASE_URL=mine\n")
    try:
        assert main(["install", "--prefix", str(staged)]) == 0
        assert settings.read_text() == "DATABASE_URL=mine\n"
    finally:
        settings.write_text(before)


def test_the_same_source_is_the_same_release(
    staged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    releases = Tree(staged).at(RELEASES)
    if name() not in os.listdir(releases):  # noqa: PTH208
        pytest.fail("the sources changed while the tests ran")
    before = {path: path.stat().st_mtime_ns for path in releases.glob("*/bin/*")}
    assert main(["install", "--prefix", str(staged)]) == 0
    assert main(["upgrade", "--prefix", str(staged)]) == 0
    assert "runs already" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in releases.glob("*/bin/*")} == before


def test_a_release_takes_over_at_once_with_its_units_and_can_go_back(
    tree: Tree,
) -> None:
    old, new = pretend(tree, "1", 1), pretend(tree, "2", 2)
    make_current(tree, old, before=None)
    assert release_before(tree) is None
    make_current(tree, new, before=old)
    assert (running_release(tree), release_before(tree)) == (new, old)
    assert {tree.at(path).read_text() for path in UNITS.values()} == {"of 2\n"}
    assert main(["upgrade", "--rollback", "--prefix", str(tree.prefix)]) == 0
    assert (running_release(tree), release_before(tree)) == (old, new)
    assert {tree.at(path).read_text() for path in UNITS.values()} == {"of 1\n"}


def test_old_releases_are_forgotten_but_none_that_is_in_use(tree: Tree) -> None:
    made = [pretend(tree, str(n), float(n)) for n in range(1, 8)]
    make_current(tree, made[0], before=None)
    make_current(tree, made[1], before=made[0])
    forget_old_releases(tree)
    kept = {path.name for path in tree.at(RELEASES).iterdir()}
    newest = {str(n) for n in range(8 - KEPT_RELEASES, 8)}
    assert kept == newest | {"1", "2"}


def test_uninstall_leaves_the_settings_and_may_be_said_twice(tree: Tree) -> None:
    make_current(tree, pretend(tree, "1", 1), before=None)
    settings = tree.at(SETTINGS)
    settings.parent.mkdir(parents=True)
    settings.write_text("kept")
    for _ in range(2):
        assert main(["uninstall", "--prefix", str(tree.prefix)]) == 0
        left = [path for path in tree.prefix.rglob("*") if not path.is_dir()]
        assert left == [settings]
    assert not tree.at(PREVIOUS).exists()


def test_an_upgrade_of_nothing_ends_with_69(
    tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["upgrade", "--prefix", str(tree.prefix)]) == 69
    assert "nothing is installed here" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["install", "upgrade", "uninstall"])
def test_an_ordinary_user_is_told_to_be_root(as_root: None, command: str) -> None:
    # All is imported first: the checkout may lie where `nobody` cannot look.
    code = f"""
import os, sys
import router.cli.{command}
from router.cli import main

os.setresuid(65534, 65534, 65534)
sys.exit(main(["{command}"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "run it as root" in done.stderr


def test_a_machine_without_systemd_ends_with_69(
    as_root: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("router.cli.machine.SYSTEMD_RUNS", tmp_path / "nowhere")
    assert main(["install"]) == 69
    assert "systemd does not run here" in capsys.readouterr().err
