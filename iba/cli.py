"""What every script shares: compose the configuration, run one function, turn a user's mistake into one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from iba.errors import UserError

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def main(job: Callable[[DictConfig], None]) -> None:
    """Run `job` with the composed configuration; a `UserError` ends it with one line and exit status 2."""
    os.environ.setdefault("IBA_ROOT", str(CONFIGS.parent))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

    @hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")
    def composed(cfg: DictConfig) -> None:
        try:
            OmegaConf.set_struct(cfg, True)
            job(cfg)
        except (UserError, OmegaConfBaseException) as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            sys.exit(2)

    composed()
