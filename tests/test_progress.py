"""Progress bars are for people: a terminal shows them, a pipe and a log do not."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from iba.progress import progress


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_drawn_on_a_terminal_alone(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    assert list(progress(range(3), "texts")) == [0, 1, 2]
    assert ("texts" in capsys.readouterr().err) == terminal


def test_every_bar_is_made_in_one_place(repository: Path) -> None:
    files = [
        file for folder in ("iba", "baselines", "scripts") for file in (repository / folder).rglob("*.py")
    ]
    assert [f.name for f in files if re.search(r"\btqdm\b", f.read_text())] == ["progress.py"]
