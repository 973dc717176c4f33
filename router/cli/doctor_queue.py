"""What `doctor` says of the queue between the webhook and the database."""

import os
import shutil
from pathlib import Path

from router.config import Settings
from router.errors import ConfigError, Transient
from router.queues.inbox import MEMORY, SPOOL, SPOOL_BYTES
from router.store.checkup import Finding

WHAT = "queue"


async def queue(settings: Settings) -> list[Finding]:
    """Judge what PSI_QUEUE names; nothing is made, and nothing is written."""
    most = f"{settings.queue_size} items"
    if settings.queue == MEMORY:
        return [Finding("ok", WHAT, f"memory, {most} each")]
    if settings.queue.startswith(SPOOL):
        return spool(Path(settings.queue.removeprefix(SPOOL)), most)
    return [await _redis(settings.queue, most)]


def spool(folder: Path, most: str) -> list[Finding]:
    """Judge a spool's *folder*, or what it would be made in."""
    folder = folder.absolute()
    there = next(each for each in (folder, *folder.parents) if each.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        return [Finding("fail", WHAT, "the spool's directory cannot be written to")]
    free = shutil.disk_usage(there).free
    words = f"a spool for {most}, {free // 2**20} MiB free"
    found = [Finding("ok" if free > SPOOL_BYTES else "warn", WHAT, words)]
    if aside := len({path.name[:29] for path in folder.glob("damaged-*")}):
        words = f"{aside} damaged files were set aside in the spool's directory"
        found.append(Finding("warn", WHAT, words))
    return found


async def _redis(url: str, most: str) -> Finding:
    try:
        from router.queues.streams import ask

        problem, warning = await ask(url)
    except (ConfigError, Transient) as exc:
        return Finding("fail", WHAT, str(exc))
    if problem:
        return Finding("fail", WHAT, f"redis: {problem}")
    if warning:
        return Finding("warn", WHAT, f"redis: {warning}")
    return Finding("ok", WHAT, f"redis, durable, for {most}")
