"""How many mutants of `router/conversation/` the tests kill: what `make mutants` ends with."""

import json
import sys
from pathlib import Path

STATS = Path("mutants/mutmut-cicd-stats.json")
LEAST = 0.85


def verdict(stats: dict[str, int]) -> tuple[bool, str]:
    """Return whether mutmut's *stats* are good enough, and what to say of them.

    What ran into a time limit, or killed its process, was noticed too.
    """
    noticed = stats["killed"] + stats["timeout"] + stats["segfault"]
    tried = stats["total"] - stats["skipped"]
    score = noticed / tried if tried else 0.0
    line = f"{noticed} of {tried} mutants killed, {score:.1%}; {LEAST:.0%} are wanted"
    return score >= LEAST, line


def main() -> int:
    """Say the score; 1 where it is too low."""
    is_enough, line = verdict(json.loads(STATS.read_text()))
    print(line)  # noqa: T201 -- a program
    return not is_enough


if __name__ == "__main__":
    sys.exit(main())
