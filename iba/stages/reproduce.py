"""All stages in order."""

from __future__ import annotations

from omegaconf import DictConfig

from iba.stages import attribute, degrade, finetune, report


def run(cfg: DictConfig) -> None:
    """Fine-tune, attribute, degrade and report."""
    for stage in (finetune, attribute, degrade, report):
        stage.run(cfg)
