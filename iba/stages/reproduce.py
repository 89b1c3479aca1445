"""All stages in order."""

from __future__ import annotations

from omegaconf import DictConfig

from iba.stages import attribute, degrade, finetune, report, study


def run(cfg: DictConfig) -> None:
    """Fine-tune, attribute, degrade, vary layer and β, and report (unless the run holds more than `cfg`)."""
    for stage in (finetune, attribute, degrade, study):
        stage.run(cfg)
    if lost := report.left_out(cfg):
        print(lost)
    else:
        report.run(cfg)
