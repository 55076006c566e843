"""The examples in the project's Markdown, and how they are tried."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "core/*.md", "docs/*.md", "plugins/*/*.md", "examples/*/*.md", "changelog.d/*.md")
    for path in ROOT.glob(pattern)
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the line it starts at, its text."""

    language: str
    line: int
    text: str

    @property
    def file(self) -> str | None:
        """The file that the first line names in a comment, such as ``# image.py``."""
        named = re.match(r"# ([\w.-]+\.(?:py|toml))$", self.text.partition("\n")[0])
        return named[1] if named else None


@dataclass(frozen=True)
class Command:
    """A line after ``$``, the exit code it is said to end with, and the output shown below it."""

    line: str
    code: int
    shown: str

    @property
    def argv(self) -> list[str]:
        return shlex.split(self.line)


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page, in order."""
    found: list[Block] = []
    held: list[str] = []
    language, start = None, 0
    for number, line in enumerate((ROOT / page).read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            if language is None:
                language, start, held = line[3:].strip(), number, []
            else:
                found.append(Block(language, start, "\n".join(held) + "\n"))
                language = None
        elif language is not None:
            held.append(line)
    assert language is None, f"{page}:{start}: a block is not closed"
    return found


def commands(block: Block) -> list[Command]:
    """Those of a console block."""
    found: list[Command] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            told, _, comment = line[2:].partition("  # ")
            code = re.search(r"exit code (\d+)", comment)
            found.append(Command(told.strip(), int(code[1]) if code else 0, ""))
        else:
            last = found.pop()
            found.append(Command(last.line, last.code, f"{last.shown}{line}\n"))
    return found


AUTHORS = "docs/builder-authors.md"


def walk() -> list[Block]:
    """The console blocks of the first chapter for authors: one session, run as such in its own test."""
    lines = (ROOT / AUTHORS).read_text(encoding="utf-8").splitlines()
    first, last = (lines.index(f"## {title}") for title in ("From an empty folder to green", "The recipe"))
    return [each for each in blocks(AUTHORS) if each.language == "console" and first < each.line < last]


def matches(shown: str, printed: str) -> bool:
    """Whether that was printed; ``…`` stands for anything, and the width of columns means nothing."""
    pattern = ".*".join(re.escape(part) for part in _narrow(shown).split("…"))
    return re.fullmatch(pattern, _narrow(printed), re.DOTALL) is not None


def _narrow(text: str) -> str:
    return re.sub(r"(?<=\S) {2,}", " ", text).strip()


def anchors(page: Path) -> set[str]:
    """What its headings can be linked by, as GitHub names them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
