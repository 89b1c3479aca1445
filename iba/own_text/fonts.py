"""Fonts for any script: what is installed is used by itself, what is missing is said once."""

from __future__ import annotations

import sys
from functools import cache

import regex
from matplotlib import rcParams
from matplotlib.font_manager import FontEntry, FontProperties, fontManager
from matplotlib.ft2font import FT2Font

from iba.display.highlight import printable

#: Stands for a character that no font has.
_BOX = "□"
_INVISIBLE = regex.compile(r"[\s\p{Default_Ignorable_Code_Point}]")


def fonts_for(text: str) -> tuple[list[str], dict[int, str]]:
    """Font families that together show `text`, the usual one first, and a table for `str.translate`.

    The table puts a box for each character that no installed font has; these are said on stderr.
    """
    usual = fontManager.findfont(FontProperties())
    lacking = set(printable(text)) - {"\n"}
    lacking -= _has(usual, usual.face_index, lacking)
    families = [*rcParams["font.family"]]
    for entry in sorted(fontManager.ttflist, key=_regular_first):
        found = _has(entry.fname, entry.index, lacking)
        families += [entry.name] if found else []
        lacking -= found
    missing = "".join(c for c in dict.fromkeys(text) if c in lacking and not _INVISIBLE.match(c))
    if missing:
        _say(missing)
    return families, {ord(c): _BOX if c in missing else "" for c in lacking}


def _regular_first(entry: FontEntry) -> tuple[bool, str]:
    return (entry.style, entry.variant, str(entry.weight)) != ("normal", "normal", "400"), entry.name


def _has(path: str, face: int, wanted: set[str]) -> set[str]:
    """The wanted characters that a font has; none where Matplotlib cannot draw it (coloured emoji)."""
    if not wanted or "LastResort" in path:  # Matplotlib's own: it has a box for everything
        return set()
    try:
        font = FT2Font(path, face_index=face)
    except (OSError, RuntimeError):
        return set()
    return {c for c in wanted if font.scalable and font.get_char_index(ord(c))}


@cache
def _say(missing: str) -> None:
    some = missing if len(missing) <= 12 else f"{missing[:12]}…"
    print(
        f"the picture has {_BOX} where no installed font has the character: {some}  Install a Noto font "
        "(Debian: fonts-noto-cjk for Chinese, Japanese and Korean, fonts-symbola for emoji, else "
        "fonts-noto-core); it is then used by itself.",
        file=sys.stderr,
    )
