"""The code on the pages of the documentation, run as a reader would, page by page.

The ```python blocks of a page are one program. Where an ```output block follows, that is what the
block before it prints; ... in it stands for anything. ```pycon blocks are sessions for doctest.

    python tests/snippets.py docs/index.md ...

writes into the pages what they print now, and to docs/images the pictures that they save.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\s*^```output\n(?P<shown>.*?)^```\n)?", re.M | re.S
)


class Snippet(NamedTuple):
    """A block that was run."""

    line: int
    shown: str | None
    printed: str

    @property
    def is_right(self) -> bool:
        """Whether it printed what is shown, if something is."""
        if self.shown is None:
            return True
        return doctest.OutputChecker().check_output(self.shown, self.printed, doctest.ELLIPSIS)


def run(page: Path, pictures: Path | None = None) -> Iterator[Snippet]:
    """The blocks of a page, run one after another in this process, in an empty folder.

    The pictures that they save there are copied to `pictures`.
    """
    text, names = page.read_text(encoding="utf-8"), {"__name__": page.stem}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for block in BLOCK.finditer(text):
            line = text[: block.start()].count("\n") + 1
            # The code stands at its own lines, for what an error says.
            code = compile("\n" * line + block["code"], str(page), "exec")
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(code, names)
            yield Snippet(line, block["shown"], out.getvalue())
        for picture in Path().glob("*.png") if pictures else ():
            shutil.copy(picture, pictures)


def check(page: Path) -> int:
    """Raises AssertionError for the first block that prints something else. How many there are."""
    count = 0
    for count, snippet in enumerate(run(page), 1):  # noqa: B007
        assert snippet.is_right, (
            f"{page.name}, line {snippet.line}: shown\n{snippet.shown}\nprinted\n{snippet.printed}"
        )
    return count


def write(page: Path) -> None:
    """Shows in the page what it prints now, where it shows something else."""
    ran = run(page, ROOT / "docs" / "images")

    def shown(block: re.Match[str]) -> str:
        snippet = next(ran)
        if snippet.is_right:
            return block[0]
        return f"```python\n{block['code']}```\n\n```output\n{snippet.printed}```\n"

    page.write_text(BLOCK.sub(shown, page.read_text(encoding="utf-8")), encoding="utf-8")
    assert next(ran, None) is None


if __name__ == "__main__":
    for name in sys.argv[1:]:
        write(Path(name).resolve())
