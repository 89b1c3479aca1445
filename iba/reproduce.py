"""All stages in order."""

from __future__ import annotations

from omegaconf import DictConfig

from iba.errors import UserError
from iba.pipeline import attribute, degrade, finetune, study
from iba.pipeline.checks import check_settings
from iba.pipeline.studies import refuse_unknown_points, studies
from iba.report import stage as report


def run(cfg: DictConfig) -> None:
    """Fine-tune, attribute, degrade, vary layer and β, and report (unless the run holds more than `cfg`)."""
    if str(cfg.shard) != "0/1":
        raise UserError(
            "reproduce runs stage after stage, which shards cannot: run scripts/finetune.py once, then "
            "attribute.py and degrade.py with shard=i/n."
        )
    check_settings(cfg)
    for each in studies(cfg):
        refuse_unknown_points(cfg, each)
    for stage in (finetune, attribute, degrade, study):
        stage.run(cfg)
    if lost := report.left_out(cfg):
        print(lost)
    else:
        report.run(cfg)
