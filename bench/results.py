"""All the measurements, in under ten minutes, and bench/RESULTS.md from what they found.

Each script runs by itself; what it writes goes to bench/results/. One that fails, or takes
longer than it may, is named, and hides nobody else's result. A goal that is not reached is
said so, and is no failure of the run.

    python -m bench.results [--only latency,batch] [--write]

--write measures nothing: it writes RESULTS.md, and the headline in README.md, from what lies
in bench/results/. Exit 1 if a script failed.
"""

import argparse
import json
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.goals import Found, goals, missed, only
from bench.machine import ROOT, python

HERE = ROOT / "bench"
PLACE = HERE / "results"
LIMIT_S = 300.0  # of a script: on a quiet machine none takes half of it
STOP_S = 30.0
SHORT_NAMES = {
    "bare": "a bare aiohttp handler",
    "plan": "the plan's design in Node",
    "cte": "express with one CTE a message",
    "go": "Go with one CTE a message",
}
HEADLINE = re.compile(r"(?<=<!-- headline -->\n).*?(?=<!-- /headline -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Script:
    """One measurement of the short set."""

    name: str
    question: str
    options: str

    @property
    def command(self) -> str:
        """How it is run by hand."""
        return (
            f"python -m bench.{self.name} --output bench/results {self.options}".strip()
        )


SHORT = (
    Script(
        "compare",
        "Against what anybody would build instead",
        "--rounds 3 --seconds 1.5 --contacts 300 --connections 50,200",
    ),
    Script(
        "throughput",
        "How many a second, and what a message costs",
        "--rounds 3 --count 6000 --connections 50,200 --contacts 1000 --seconds 5",
    ),
    Script("latency", "How long a 200 takes", "--seconds 6 --idle 20"),
    Script("batch", "What large bodies save", "--rounds 3 --seconds 1 --most 20000"),
    Script(
        "growth",
        "With years of messages already there",
        "--rounds 3 --seconds 2 --contacts 500",
    ),
    Script(
        "memory",
        "How much memory",
        "--seconds 8 --soak 20 --contacts 2000",
    ),
    Script("startup", "From the start to ready", "--starts 5"),
    Script(
        "delivery",
        "What telling costs, and how late a CRM hears",
        "--rounds 3 --dead 50000 --claims 30 --seconds 4 --burst 3000",
    ),
)


def measured(script: Script, place: Path = PLACE, limit_s: float = LIMIT_S) -> str:
    """Run a script; return what is wrong with it, '' if nothing."""
    place.mkdir(exist_ok=True)
    for old in place.glob(f"{script.name}.*"):
        old.unlink()  # a script that fails shows nothing, and nothing older
    print(f"\n== {script.command}", flush=True)
    command = python(f"bench.{script.name}", "--output", str(place))
    process = subprocess.Popen([*command, *script.options.split()], cwd=ROOT)
    try:
        status = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return f"took longer than {limit_s:g} s"
    finally:
        _end(process)
    return f"ended with status {status}" if status else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    # SIGTERM: it stops its servers and removes its databases before it ends.
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def found(place: Path = PLACE) -> dict[str, dict[str, Any]]:
    """Return the data that lie in *place*, by the script's name."""
    return {
        path.stem: json.loads(path.read_text()) for path in sorted(place.glob("*.json"))
    }


def results(every: Found, failed: dict[str, str], place: Path = PLACE) -> str:
    """Return RESULTS.md."""
    lines = [
        "# Results",
        "",
        "Written by `make bench`; what each script asks: [README.md](README.md).",
        "",
    ]
    lines += machine(every)
    lines += ["", "## Against the goals", "", goals(every), ""]
    lines += [f"- Not reached: {what}." for what in missed(every)]
    lines += [f"- {told}" for told in noise(every)]
    lines += [
        f"- **{name} {why}**: its part is missing or incomplete."
        for name, why in failed.items()
    ]
    for name, why in left_out(every).items():
        lines.append(f"- Left out of the comparison: {name}, needs {why}.")
    for script in SHORT:
        lines += section(script, every, place)
    return "\n".join(lines).rstrip() + "\n"


def left_out(every: Found) -> dict[str, str]:
    """Return the peers that could not run, and why."""
    return dict(every.get("compare", {}).get("left_out", {}))


def machine(every: Found) -> list[str]:
    """Return what it ran on, from the script that knows most."""
    described = [data["machine"] for data in every.values() if "machine" in data]
    if not described:
        return ["Nothing was measured."]
    most: dict[str, str] = max(described, key=len)
    return [f"- {name}: {value}" for name, value in most.items()]


def section(script: Script, every: Found, place: Path) -> list[str]:
    """Return one script's part."""
    lines = ["", f"## {script.question}", ""]
    if script.name not in every:
        return [*lines, f"Not measured: `{script.command}`."]
    data = every[script.name]
    told = f"{data['at']}, commit {data['commit']}, seed {data['options']['seed']}"
    lines += [f"`{replace(script, options=data['arguments']).command}` ({told})", ""]
    lines += [f"**BROKEN: {line}**\n" for line in data["broken"]]
    lines.append((place / f"{script.name}.md").read_text())
    if (place / f"{script.name}.svg").exists():
        lines.append(f"![{script.name}](results/{script.name}.svg)")
    return lines


def noise(every: Found) -> list[str]:
    """Return, in words, in how many rounds of the comparison others used the machine."""
    rows = every.get("compare", {}).get("contestants", [])
    noisy = sum(row["noisy_rounds"] for row in rows)
    turns = sum(len(row["rounds"]["rate"]) for row in rows)
    if not noisy:
        return []
    return [
        f"In {noisy} of {turns} turns others took more than a tenth of the machine."
    ]


def headline(every: Found) -> str:
    """Return the README's lines about speed: figures as they were measured."""
    data = every["compare"]
    where = f"{data['machine']['cores']} cores ({data['machine']['processor']})"
    told = [f"`make bench`, {data['at'][:10]}, {where}, commit {data['commit']}:"]
    for connections in dict.fromkeys(one["connections"] for one in data["contestants"]):
        rows = [one for one in data["contestants"] if one["connections"] == connections]
        rate = only(rows, name="router")["median"]["rate"]
        times = [
            f"{one['router_is']:.2f} times {SHORT_NAMES[one['name']]}"
            for one in rows
            if one["name"] in SHORT_NAMES
        ]
        told += [
            f"with {connections} connections **{rate:,.0f} durable messages a second** on",
            f"one core, everything switched on; in the same run {', '.join(times)}.",
        ]
    told += noise(every)
    return textwrap.fill(" ".join(told), 130, break_on_hyphens=False) + "\n"


def write(failed: dict[str, str]) -> None:
    """Write RESULTS.md, and the README's headline where there is one to be told."""
    every = found()
    (HERE / "RESULTS.md").write_text(results(every, failed))
    if "compare" in every:
        readme = ROOT / "README.md"
        told = headline(every)
        readme.write_text(HEADLINE.sub(lambda _: told, readme.read_text()))


def run(scripts: Sequence[Script]) -> dict[str, str]:
    """Run *scripts*, one after the other; return what failed, and how."""
    failed = {}
    for script in scripts:
        if wrong := measured(script):
            failed[script.name] = wrong
            print(f"FAILED: {script.name} {wrong}", flush=True)
    return failed


def main() -> int:
    """Read the options, measure, write."""
    names = [script.name for script in SHORT]
    made = argparse.ArgumentParser(
        description="The short set of measurements; see bench/README.md."
    )
    made.add_argument("--only", type=lambda text: text.split(","), default=names)
    made.add_argument("--write", action="store_true", help="measure nothing")
    options = made.parse_args()
    if unknown := set(options.only) - set(names):
        made.error(f"no such scripts: {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the script in hand, too
    began = time.monotonic()
    scripts = [script for script in SHORT if script.name in options.only]
    failed = {} if options.write else run(scripts)
    write(failed)
    for name, why in left_out(found()).items():
        print(f"left out: {name}, needs {why}")
    for name, wrong in failed.items():
        print(f"FAILED: {name} {wrong}")
    print(f"bench/RESULTS.md written; {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
