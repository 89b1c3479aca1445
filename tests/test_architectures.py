"""The page on architectures and methods is what the code does."""

from __future__ import annotations

from pathlib import Path

import architectures


def test_the_page_on_architectures_is_what_they_do() -> None:
    written = Path(__file__).resolve().parent.parent / "docs" / "architectures.md"
    assert written.read_text() == architectures.page(), "write it again: see tests/architectures.py"
