"""Where rows come from: the Hugging Face hub, or parquet files with the hub's columns."""

from __future__ import annotations

from pathlib import Path

from datasets import Dataset, load_dataset
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from omegaconf import DictConfig

from iba.errors import UserError


def hub_or_parquet(
    split: str, hub: str, config: str | None, splits: DictConfig, files: DictConfig, data_dir: str | None
) -> Dataset:
    """One split of a hub data set; with `data_dir`, the parquet file of that split below the folder."""
    return _parquet(Path(data_dir), files[split]) if data_dir else _hub(hub, config, splits[split])


def _hub(hub: str, config: str | None, split: str) -> Dataset:
    try:
        return load_dataset(hub, config, split=split)
    except (OSError, DatasetNotFoundError, ValueError) as error:
        raise UserError(
            f"data set {hub!r} ({split}) cannot be had from the Hugging Face hub ({type(error).__name__}). "
            "Check the network, or read parquet files instead: paths.data_dir=FOLDER."
        ) from error


def _parquet(folder: Path, name: str) -> Dataset:
    path = folder / name
    if not path.is_file():
        raise UserError(f"no file {path}; paths.data_dir must be a folder that holds {name}.")
    try:
        return load_dataset("parquet", data_files=str(path), split="train")
    except (DatasetGenerationError, ValueError, OSError) as error:
        raise UserError(
            f"{path} is not a readable parquet file (damaged or cut off?): fetch it again."
        ) from error
