"""Where rows come from: the Hugging Face hub, or files with the hub's columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset, concatenate_datasets, load_dataset
from datasets.exceptions import DatasetGenerationError
from omegaconf import DictConfig

from iba.errors import UserError
from iba.hub import HUB_ERRORS, cached_first

# In a CSV file only an empty field is missing: "NA" or "null" may be a text.
_CSV: dict[str, Any] = {"keep_default_na": False, "na_values": [""]}
#: Per extension the loader of `datasets` and its options. Of files of one name the first is read.
LOADERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".parquet": ("parquet", {}),
    ".csv": ("csv", _CSV),
    ".tsv": ("csv", _CSV | {"sep": "\t"}),
    ".jsonl": ("json", {}),
    ".json": ("json", {}),
}


def hub_or_files(
    split: str, hub: str, config: str | None, splits: DictConfig, files: DictConfig, data_dir: str | None
) -> Dataset:
    """One split of a hub data set; with `data_dir`, the file (or files) of that split below the folder."""
    if not data_dir:
        return _hub(hub, config, splits[split])
    names = [files[split]] if isinstance(files[split], str) else files[split]
    first, *others = [_file(Path(data_dir), name) for name in names]
    alike = [each.select_columns(first.column_names).cast(first.features) for each in others]
    return concatenate_datasets([first, *alike])


@cached_first
def _hub(hub: str | Path, config: str | None, split: str) -> Dataset:
    try:
        return load_dataset(str(hub), config, split=split)
    except (*HUB_ERRORS, DatasetGenerationError) as error:
        raise UserError(
            f"data set {str(hub)!r} ({split}) cannot be had from the Hugging Face hub "
            f"({type(error).__name__}). Check the network, or read local files: paths.data_dir=FOLDER."
        ) from error


def _file(folder: Path, name: str) -> Dataset:
    """The file, or the one beside it that differs in its extension alone."""
    asked = folder / name
    found = [p for p in (asked, *map(asked.with_suffix, LOADERS)) if p.is_file() and p.suffix in LOADERS]
    if not found:
        raise UserError(
            f"no file {asked}, nor one beside it that ends in {', '.join(LOADERS)}; paths.data_dir must be a "
            f"folder that holds {name}."
        )
    loader, options = LOADERS[found[0].suffix]
    try:
        return load_dataset(loader, data_files=str(found[0]), split="train", **options)
    except (DatasetGenerationError, ValueError, OSError) as error:
        reason = str(error.__cause__ or error).strip().split("\n")[0][:160]
        raise UserError(
            f"{found[0]} is not a readable {loader} file ({reason}): mend it or fetch it again."
        ) from error
