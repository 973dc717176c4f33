"""Who a PostgreSQL server runs as, since it refuses to run as root.

As root the server is root in disguise: in a user namespace that calls root `nobody`, so
its files stay root's. Where the kernel grants no namespace (in a chroot, under the usual
seccomp profile of containers), the server becomes `nobody` and its data are given to
`nobody`. Data that belong to another user are served as that user.

No directory above the data is opened to anybody or changes hands.
"""

import functools
import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Disguise:
    """How a program of PostgreSQL's is started: words before it, and whom files go to."""

    prefix: tuple[str, ...]
    uid: int  # as seen from here

    def give(self, path: Path) -> None:
        """Make *path*, and all below it, the server's; never follow a link."""
        if os.geteuid() != 0:
            return
        os.chown(path, self.uid, _group(self.uid), follow_symlinks=False)
        if path.is_dir() and not path.is_symlink():
            for child in path.iterdir():
                self.give(child)


def disguise(data: Path, *used: Path) -> Disguise:
    """Choose who serves *data*, which need not exist; *used* is what it must reach."""
    me = os.geteuid()
    owner = data.stat().st_uid if data.exists() else me
    if me == 0 and owner != 0:
        return _become(owner, data, *used)
    if me != 0 and _has_name(me):
        return Disguise((), me)
    # initdb refuses a user without a name, as containers give them, as it does root.
    if namespace := _namespace():
        return Disguise(namespace, me)
    if me != 0:
        return Disguise((), me)
    return _become(pwd.getpwnam(NOBODY).pw_uid, data, *used)


@functools.cache
def _namespace() -> tuple[str, ...]:
    """Return the command that shows us to a program as `nobody`; () if it is refused."""
    try:
        nobody = pwd.getpwnam(NOBODY)
        users = (f"--map-user={nobody.pw_uid}", f"--map-group={nobody.pw_gid}")
        command = ("unshare", *users, "--")
        tried = subprocess.run(  # noqa: S603 -- fixed words
            [*command, "true"], capture_output=True, check=False
        )
    except (KeyError, OSError):
        return ()
    return command if tried.returncode == 0 else ()


def _become(uid: int, *used: Path) -> Disguise:
    """Turn root into *uid*, which keeps root's right to pass where it needs it."""
    words = ["setpriv", f"--reuid={uid}", f"--regid={_group(uid)}", "--clear-groups"]
    if not _open_to_all(*used):
        words += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return Disguise((*words, "--"), uid)


def _open_to_all(*paths: Path) -> bool:
    """Whether any user may come by: each directory on the way can be searched."""
    ways = {parent for path in paths for parent in path.absolute().parents}
    return all(way.stat().st_mode & 0o001 for way in ways)


def _group(uid: int) -> int:
    return pwd.getpwuid(uid).pw_gid if _has_name(uid) else uid


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
