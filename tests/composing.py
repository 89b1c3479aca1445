"""The configuration as tests have it: Hydra composes a choice of groups once, settings are changed after."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
#: A run in seconds, whose numbers are the same on every processor: few samples and few tries.
PLANTED = (
    "preset=smoke",
    "dataset=planted",
    "precision=fp32",
    "finetune.precision=fp32",
    "++method.lime.settings.n_samples=40",
    "++protocol.corrected.methods.iba.tries=[{beta: 1.0e-5}, {beta: 0.1}]",
    "++protocol.corrected.methods.ig.tries=[{n_steps: 5}, {n_steps: 5, baseline: mask}]",
    "++protocol.corrected.methods.lime.tries=[{n_samples: 40}, {n_samples: 40, kernel_width: 10.0}]",
)


def composed(*overrides: str, config: str = "config") -> DictConfig:
    """What Hydra composes of `overrides`, with this checkout as the root of all paths."""
    chosen = tuple(each for each in overrides if (CONFIGS / each.partition("=")[0]).is_dir())
    cfg = deepcopy(_composed(config, chosen))
    changed(cfg, f"paths.root={ROOT}", *(each for each in overrides if each not in chosen))
    return cfg


def changed(cfg: DictConfig, *overrides: str) -> None:
    """Change settings in place, as Hydra does last."""
    parsed = OverridesParser.create().parse_overrides([*overrides])
    ConfigLoaderImpl._apply_overrides_to_config(parsed, cfg)


@cache
def _composed(config: str, chosen: tuple[str, ...]) -> DictConfig:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(config, [*chosen])


def configured(folder: Path, *overrides: str) -> DictConfig:
    """A smoke run on planted text with results and cache below `folder`."""
    paths = (f"paths.results={folder}/results", f"paths.cache={folder}/cache")
    return composed(*PLANTED, *paths, *overrides)
