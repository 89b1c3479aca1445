"""All stages in order."""

from __future__ import annotations

from omegaconf import DictConfig

from iba.stages import attribute, degrade, finetune, report, study


def run(cfg: DictConfig) -> None:
    """Fine-tune, attribute, degrade, vary layer and β, and report."""
    for stage in (finetune, attribute, degrade, study, report):
        stage.run(cfg)
