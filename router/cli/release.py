"""A release: one version in an environment of its own, beside the ones before it.

    /opt/psi-router/releases/0.1.0-3f2a…    the environment, and share/psi-router with the units
    /opt/psi-router/current -> releases/…   what the units start
    /opt/psi-router/previous -> releases/…  what `upgrade --rollback` goes back to

Its name holds a digest of what is in it, so the same source is the same release, and one
that is complete is never touched again. It is made from whatever runs: a checkout, a wheel,
or a release. What it depends on comes from the lock, by hash, wheels only.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import router
from router import __version__
from router.cli.environment import HOME
from router.cli.running import REVISION_NOTE, commit
from router.errors import Unavailable

RELEASES = HOME / "releases"
PACKAGE = Path(router.__file__).parent
SHARE = Path("share/psi-router")  # in an environment
SHARED = ("systemd", "nginx", "requirements", "docs")  # of a checkout, or of SHARE
LOCK = "requirements/embedded.txt"  # with a PostgreSQL, for DATABASE_URL=embedded:DIR
LEAST_PYTHON = (3, 11)
HOMES = ("/home", "/root", "/run/user")  # ProtectHome= hides them from the service
PYTHONS = ("/usr/local/bin/python3", "/usr/bin/python3")
NOTHING_COMPILED = shutil.ignore_patterns("__pycache__")
SCRIPT = "#!{python}\nimport sys\n\nfrom router.cli import main\n\nsys.exit(main())\n"


@dataclass(frozen=True, slots=True)
class Tree:
    """The machine's files, or with another *prefix* a staged copy of them."""

    prefix: Path

    @property
    def staged(self) -> bool:
        """Whether this is no running machine: no user, no systemctl."""
        return self.prefix != Path("/")

    def at(self, path: str | Path) -> Path:
        """Return where the machine's *path* is."""
        return self.prefix / Path(path).relative_to("/")


def shared() -> Path:
    """Return where the units and the lock are: the checkout, or this environment's share.

    Raises `Unavailable` where there are none.
    """
    for place in (PACKAGE.parent, Path(sys.prefix) / SHARE):
        if (place / LOCK).is_file() and (place / "systemd").is_dir():
            return place
    raise Unavailable(f"neither a checkout nor an installed wheel: {PACKAGE.parent}")


def name() -> str:
    """Return the name of the release that is made from what runs: a release's own."""
    if Path(sys.prefix).parent == RELEASES:
        return Path(sys.prefix).name
    digest = hashlib.sha256()
    for path in _sources():
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{__version__}-{digest.hexdigest()[:12]}"


def _sources() -> Iterator[Path]:
    yield from sorted(p for p in PACKAGE.rglob("*") if p.is_file() and not _made(p))
    for folder in SHARED:
        if (shared() / folder).is_dir():
            yield from sorted(p for p in (shared() / folder).rglob("*") if p.is_file())


def _made(path: Path) -> bool:
    return "__pycache__" in path.parts


def build(tree: Tree, release: Path) -> None:
    """Make *release*, a path of the machine; do nothing where it is complete.

    Raises `Unavailable` where Python or a package cannot be had.
    """
    place = tree.at(release)
    if (place / REVISION_NOTE).exists():
        return
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    old_mask = os.umask(0o022)  # the service's user reads it
    try:
        _environment(place)
        _package(place)
        _script(place, release)
        (place / REVISION_NOTE).write_text(f"{commit()}\n", "ascii")  # complete
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    finally:
        os.umask(old_mask)


def _environment(place: Path) -> None:
    _run(
        python(), "-m", "venv", place, reason="on Debian: apt-get install python3-venv"
    )
    _run(
        *(place / "bin/python", "-m", "pip", "install", "--quiet"),
        *("--disable-pip-version-check", "--no-warn-script-location"),
        *("--require-hashes", "--only-binary", ":all:", "-r", shared() / LOCK),
        reason="is the package index reachable?",
    )


def _package(place: Path) -> None:
    code = "import sysconfig; print(sysconfig.get_path('purelib', 'venv'))"
    inside = Path(_run(place / "bin/python", "-c", code, reason="").strip(), "router")
    shutil.copytree(PACKAGE, inside, ignore=NOTHING_COMPILED)
    for folder in SHARED:
        if (shared() / folder).is_dir():
            shutil.copytree(shared() / folder, place / SHARE / folder)
    # The service cannot write here, so it would compile at each start.
    _run(place / "bin/python", "-m", "compileall", "-q", inside, reason="")


def _script(place: Path, release: Path) -> None:
    script = place / "bin/psi-router"
    script.write_text(SCRIPT.format(python=release / "bin/python"), "utf-8")
    script.chmod(0o755)
    if place == release:
        return
    for path in (place / "pyvenv.cfg", *(place / "bin").iterdir()):
        if path.is_file() and not path.is_symlink():  # staged: say where it will be
            text = path.read_bytes().replace(os.fsencode(place), os.fsencode(release))
            path.write_bytes(text)


def python() -> Path:
    """Return the interpreter of a release: one that the service can see.

    Raises `Unavailable`.
    """
    own = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    for path in (own, *map(Path, PYTHONS)):
        if not _at_home(path) and path.exists() and _new_enough(path):
            return path
    raise Unavailable(
        "no Python >= 3.11 outside of home folders, which the service does not see; "
        "on Debian: apt-get install python3-venv"
    )


def _at_home(path: Path) -> bool:
    return any(path.resolve().is_relative_to(home) for home in HOMES)


def _new_enough(path: Path) -> bool:
    code = f"import sys; sys.exit(sys.version_info < {LEAST_PYTHON})"
    return (
        subprocess.run(  # noqa: S603 -- an interpreter of this machine
            [path, "-c", code], check=False, capture_output=True
        ).returncode
        == 0
    )


def _run(*command: str | Path, reason: str) -> str:
    done = subprocess.run(  # noqa: S603 -- our words
        [*map(str, command)], check=False, capture_output=True, text=True
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-5:]
        words = " ".join(map(str, command[:4]))
        raise Unavailable("\n".join([f"{words} … failed; {reason}", *said]))
    return done.stdout
