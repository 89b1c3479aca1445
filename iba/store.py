"""What is written to disk and when it counts as finished: atomic files, fingerprints, provenance."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
from filelock import FileLock, Timeout
from pyarrow import parquet

from iba.errors import UserError

if TYPE_CHECKING:  # loaded where a device is asked for: reading stored tables needs no torch
    import torch

PACKAGES = ("torch", "transformers", "datasets", "captum", "lime", "numpy", "scipy", "pandas", "hydra-core")


#: Folders of a table's unfinished parts, of a training's unfinished steps, and the record of a finished one.
PARTS, STEPS, TRAINED = "parts", "steps", "finetuning.json"
#: How the folder of what is just being written begins; machine and process follow.
_WRITING = ".writing-"


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path that takes the place of `path` when the block ends without an error.

    It lies in a folder of its own beside `path`, so that what a library writes besides vanishes as well.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f"{_WRITING}{platform.node()}-{os.getpid()}-"
        with tempfile.TemporaryDirectory("", prefix, path.parent, ignore_cleanup_errors=True) as folder:
            temporary = Path(folder, path.name)
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"{path} could not be written ({error.strerror or error}); nothing was lost."
        ) from error


def sweep(*roots: Path) -> None:
    """Remove below `roots` what killed processes left behind and nothing will ever read."""
    for root in roots:
        for parent, names, _ in os.walk(root, topdown=False):
            for folder in (Path(parent, name) for name in names):
                with contextlib.suppress(FileNotFoundError):  # another process sweeps as well
                    if _is_leftover(folder):
                        shutil.rmtree(folder, ignore_errors=True)
            if Path(parent).name == PARTS:
                with contextlib.suppress(OSError):  # not empty
                    Path(parent).rmdir()


def _is_leftover(folder: Path) -> bool:
    """Written by a process that is gone; or unfinished work, where the finished one lies beside it."""
    if folder.name.startswith(_WRITING):
        return not _is_written(folder)
    if folder.parent.name == PARTS:
        return (folder.parent.parent / f"{folder.name}.parquet").is_file()
    return folder.name == STEPS and folder.with_name(TRAINED).is_file()


def _is_written(folder: Path) -> bool:
    """Whether the process that the name tells may live: it runs here, or began elsewhere within a day."""
    machine, process, _ = folder.name.removeprefix(_WRITING).rsplit("-", 2)
    if machine != platform.node():
        return time.time() - folder.stat().st_mtime < 24 * 3600
    try:
        os.kill(int(process), 0)
    except OSError as error:  # another user's process lives as well
        return not isinstance(error, ProcessLookupError)
    return True


@contextlib.contextmanager
def alone(path: Path, waiting: str) -> Iterator[None]:
    """Hold the lock file `path`; while another process holds it, say what is waited for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{waiting}; waiting")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file; `UserError` if it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged: delete it and run the stage again.") from error


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table as compressed parquet, atomically; float32, also in lists, is compressed byte by byte."""
    rows = pa.Table.from_pandas(table, preserve_index=False)
    floats = [_leaf(field) for field in rows.schema if pa.float32() in (field.type, _inner(field))]
    others = [_leaf(field) for field in rows.schema if _leaf(field) not in floats]
    with atomic(path) as temporary:
        parquet.write_table(
            rows, temporary, compression="zstd", use_dictionary=others, use_byte_stream_split=floats
        )


def _inner(field: pa.Field) -> pa.DataType | None:
    """What a list holds; None for no list."""
    return field.type.value_type if pa.types.is_list(field.type) else None


def _leaf(field: pa.Field) -> str:
    """What parquet calls the column's values."""
    return f"{field.name}.list.element" if pa.types.is_list(field.type) else str(field.name)


def read_parquet(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a stored table; `UserError` if it is missing or damaged."""
    if not path.is_file():
        raise UserError(f"no file {path}: run the stage that writes it first.")
    try:
        return pd.read_parquet(path, columns=columns)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged: delete it and run the stage again.") from error


def differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    """Where two plain settings differ, as "name: old → new" (a readable few, for messages)."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [f"{prefix or 'settings'}: {old} → {new}"]
    names = sorted(set(old) | set(new))
    return [
        line
        for name in names
        for line in differences(old.get(name), new.get(name), f"{prefix}.{name}".lstrip("."))
    ]


def provenance(device: torch.device | str, **measured: Any) -> dict[str, Any]:
    """Versions, git commit, device and peak memory of this process, with what else was `measured`."""
    return {
        "versions": {"python": platform.python_version(), **{p: _version(p) for p in PACKAGES}},
        "git_commit": git_commit(),
        "device": device_name(device),
        "peak_memory_mb": round(peak_memory_mb(device), 1),
        "command": _command(),
    } | measured


def _command() -> str:
    """The command line without the user's own folders, which mean nothing elsewhere."""
    arguments = [a for a in sys.argv[1:] if not a.startswith("paths.")]
    return " ".join([Path(sys.argv[0]).name, *arguments])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """The checked-out commit, with "+changes" where the code differs from it; None without git."""
    root = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "iba", "baselines", "configs")
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changed else "")


def device_name(device: torch.device | str) -> str:
    """The GPU's name, or the processor's with the number of threads used."""
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        model = names[0] if names else model
    return f"{model}, {torch.get_num_threads()} threads"


def peak_memory_mb(device: torch.device | str) -> float:
    """Peak memory so far, MB: allocated on the GPU, or resident in this process on a CPU."""
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
