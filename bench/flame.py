"""Folded stacks, as py-spy and perf give them, as a flame graph and as shares.

A line of a folded file is `outermost;...;innermost COUNT`; a frame is `function (file:line)`.
"""

import html
import re
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePath

Stacks = Counter[tuple[str, ...]]
LINE = re.compile(r":\d+$")

WIDTH, ROW, FONT = 1200.0, 17, 11
CHARACTER = 6.8  # wide, at that size
NARROWEST = 0.4  # what is drawn at all, of WIDTH
HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
    'font-family="monospace" font-size="{font}">\n<text x="4" y="13">{title}</text>\n'
)
BOX = (
    '<g><title>{title}</title><rect x="{x:.1f}" y="{y}" width="{width:.1f}" '
    'height="{height}" rx="1" fill="{fill}"/><text x="{text_x:.1f}" y="{text_y}">{text}'
    "</text></g>\n"
)


def folded(lines: Iterable[str]) -> Stacks:
    """Read folded stacks."""
    stacks: Stacks = Counter()
    for line in lines:
        frames, _, count = line.rstrip().rpartition(" ")
        if frames:
            stacks[tuple(frames.split(";"))] += int(count)
    return stacks


def module(frame: str) -> str:
    """Return the file of a frame: ours as it is, another package's by the package."""
    path = PurePath(LINE.sub("", frame.rpartition("(")[2].rstrip(")")))
    if path.parts[:1] == ("router",):
        return str(path)
    return path.parts[0] if len(path.parts) > 1 else path.name


def shares(stacks: Stacks) -> list[tuple[str, float, float]]:
    """Return modules with the share of samples in them and in or below them; largest first."""
    own: Counter[str] = Counter()
    below: Counter[str] = Counter()
    for frames, count in stacks.items():
        own[module(frames[-1])] += count
        for name in {module(frame) for frame in frames}:
            below[name] += count
    total = stacks.total() or 1
    return [
        (name, own[name] / total, below[name] / total) for name in _order(own, below)
    ]


def _order(own: Counter[str], below: Counter[str]) -> list[str]:
    return sorted(below, key=lambda name: (-own[name], -below[name], name))


@dataclass(slots=True)
class Node:
    """A frame in one place of the graph."""

    count: int = 0
    under: dict[str, "Node"] = field(default_factory=dict)

    def add(self, frames: Iterable[str], count: int) -> None:
        """Add a stack."""
        node = self
        node.count += count
        for frame in frames:
            node = node.under.setdefault(frame, Node())
            node.count += count

    def depth(self) -> int:
        """Return how many frames stand over each other."""
        return 1 + max((node.depth() for node in self.under.values()), default=0)


def graph(stacks: Stacks, title: str) -> str:
    """Return the flame graph as SVG: the outermost frame below, a title on each box."""
    root = Node()
    for frames, count in sorted(stacks.items()):
        root.add(frames, count)
    height = (root.depth() + 1) * ROW
    boxes: list[str] = []
    _draw(root, 0.0, height - ROW, root.count or 1, boxes)
    head = HEAD.format(width=WIDTH, height=height, font=FONT, title=html.escape(title))
    return f"{head}{''.join(boxes)}</svg>\n"


def _draw(node: Node, left: float, top: int, total: int, boxes: list[str]) -> None:
    for name, child in node.under.items():
        width = child.count / total * WIDTH
        if width >= NARROWEST:
            boxes.append(_box(name, child.count / total, left, top, width))
            _draw(child, left, top - ROW, total, boxes)
        left += width


def _box(name: str, share: float, left: float, top: int, width: float) -> str:
    room = int(width / CHARACTER)
    return BOX.format(
        title=html.escape(f"{name}: {share:.1%}"),
        x=left,
        y=top,
        width=width,
        height=ROW - 1,
        fill=_colour(module(name)),
        text_x=left + 2,
        text_y=top + FONT + 1,
        text=html.escape(name[:room]) if room > 2 else "",  # noqa: PLR2004 -- readable
    )


def _colour(name: str) -> str:
    # A module keeps its colour; ours are warm, the others grey-blue.
    spread = zlib.crc32(name.encode()) % 40
    hue, saturation = (
        (15 + spread, 85) if name.startswith("router") else (200 + spread, 30)
    )
    return f"hsl({hue},{saturation}%,72%)"
