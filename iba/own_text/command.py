"""The command: one's own texts in, lines in the terminal and files out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from omegaconf import DictConfig, OmegaConf

from iba.data.texts import OwnText, read_texts
from iba.errors import UserError
from iba.own_text.explanation import explain_all
from iba.own_text.files import save, save_many
from iba.own_text.show import show

_LITERAL = ("text", "text_pair", "texts", "target", "model_dir", "reference", "out")


def run(cfg: DictConfig) -> None:
    """Explain `text`, or all `texts` of a file, and write the files; one text is shown too, and so are many
    where no file is asked for."""
    if (cfg.text is None) == (cfg.texts is None) or OmegaConf.is_missing(cfg, "model_dir"):
        raise UserError(
            'give what to explain, text="…" or texts=FILE, and a classifier, model=FOLDER (or a hub id).'
        )
    reference = None if cfg.reference is None else read_texts(cfg.reference)
    found = explain_all(cfg, cfg.model_dir, _asked(cfg), reference)
    if cfg.texts is None or not cfg.out:
        for one in found:
            show(one, cfg.unit)
    if not cfg.out:
        return
    written = save(found[0], cfg.out, cfg.unit) if cfg.texts is None else save_many(found, cfg.out)
    cut = [one.row for one in found if one.truncated]
    if cfg.texts is not None and cut:
        print(f"{len(cut)} of {len(found)} texts were cut, the first in row {cut[0]} of {cfg.texts}")
    print(*written, sep="\n")


def _asked(cfg: DictConfig) -> list[OwnText]:
    if cfg.texts is None:
        return [OwnText.of(str(cfg.text), None if cfg.text_pair is None else str(cfg.text_pair), cfg.target)]
    if cfg.text_pair is not None:
        raise UserError(
            "text_pair goes with text; in a file, pairs have a tab between or a column text_pair."
        )
    return [t if t.target is not None else replace(t, target=cfg.target) for t in read_texts(cfg.texts)]


def literal_arguments(arguments: Sequence[str]) -> list[str]:
    """Arguments with free text quoted for Hydra, whose grammar gives commas and quotes a meaning.

    `model=FOLDER` is taken as `model_dir=FOLDER`, and `method=iba,ig` as `method=[iba,ig]`.
    """
    return [_literal(*argument.partition("=")) for argument in arguments]


def _literal(name: str, equals: str, value: str) -> str:
    name = "model_dir" if name == "model" else name
    if name == "method" and "," in value and not value.startswith("["):
        value = f"[{value}]"
    elif equals and name in _LITERAL and value and (value != "null" or name == "text"):
        # Only in front of a quote or an interpolation does a backslash count: there it is doubled.
        value = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
        value = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)
        value = f"'{value}'"
    return f"{name}{equals}{value}"
