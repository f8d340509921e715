"""The Python of the README runs as it stands there."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def test_python_blocks(tmp_path, monkeypatch):
    """They share one namespace, as in a notebook; a line of a traceback is the README's own."""
    text = README.read_text(encoding="utf-8")
    blocks = list(BLOCK.finditer(text))
    assert blocks
    monkeypatch.chdir(tmp_path)  # files that they write are not left in the checkout
    namespace = {"__name__": "readme"}
    for block in blocks:
        before = text[: block.start(1)].count("\n")
        exec(compile("\n" * before + block[1], str(README), "exec"), namespace)
