"""What every script shares: compose the configuration, run one function, turn a mistake into one line."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from pkgutil import resolve_name

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from iba.errors import UserError
from iba.progress import forgive_encoding
from iba.settings import CONFIGS
from iba.store import sweep

#: How the one line begins.
_ERROR = "error: "


def main(
    job: str | Callable[[DictConfig], None], config_name: str = "config", arguments: str | None = None
) -> None:
    """Run `job` with the composed configuration; a user's mistake ends it with one line and exit status 2.

    `job` and what prepares the `arguments` for Hydra may be given as "module:function", so that what they
    load finds the environment that is set here.
    """
    forgive_encoding(sys.stdout)
    # torch reads it once, when it is loaded: threads that wait sleep, so that a second busy process costs its
    # share of the cores and not many times that.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("IBA_ROOT", str(CONFIGS.parent))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach the line below instead of Hydra's own report

    if arguments:
        sys.argv[1:] = resolve_name(arguments)(sys.argv[1:])

    @hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=config_name)
    def composed(cfg: DictConfig) -> None:
        # Here and not above: a launcher such as submitit's calls this function in a process of its own.
        run = resolve_name(job) if isinstance(job, str) else job
        _quiet()
        _keep_freed_memory()
        OmegaConf.set_struct(cfg, True)
        with _one_line():  # inside Hydra's call, which would print its own report first
            cache = Path(cfg.paths.cache)
            sweep(Path(cfg.paths.results), *(cache / part for part in ("classifiers", "fitted", "tokens")))
            run(cfg)

    with _one_line():
        composed()


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """End the process with one line for what the user can mend; anything else shows its trace."""
    try:
        yield
    except (UserError, HydraException, OmegaConfBaseException) as error:
        _stop(str(error))
    except KeyboardInterrupt:
        _stop("stopped; finished work is kept: run the same command again to go on.", status=130)
    except Exception as error:
        line = _line_of_disk(error) or _line_of_job(error) or _line_of_memory(error)
        if str(error).startswith("Config group override"):  # such as dataset=null: Hydra raises a ValueError
            line = str(error)
        if line is None:
            raise
        _stop(line)


def _line_of_disk(error: Exception) -> str | None:
    """What to do about a full disk or a folder that cannot be written; safetensors has its own exception."""
    code = error.errno if isinstance(error, OSError) else None
    full = (errno.ENOSPC, errno.EDQUOT)
    if code in full or any(os.strerror(number) in str(error) for number in full):
        return "the disk is full; finished work is kept: make room and run the same command again."
    if isinstance(error, OSError) and code in (errno.EACCES, errno.EROFS, errno.ENOTDIR):
        return f"{error.filename or 'a file'}: {error.strerror}; choose other folders with paths.*=FOLDER."
    return None


def _line_of_job(error: Exception) -> str | None:
    """What a user's mistake made a submitted job say last: submitit hands on the job's whole log instead."""
    submitit = sys.modules.get("submitit.core.utils")
    if submitit is None or not isinstance(error, submitit.UncompletedJobError):
        return None
    said = [line for line in str(error).splitlines() if line.startswith(_ERROR)]
    return said[-1].removeprefix(_ERROR) if said else None


def _line_of_memory(error: Exception) -> str | None:
    """What to do where even one text does not fit: a group of texts would have been halved."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(error, torch.cuda.OutOfMemoryError):
        return None
    return (
        "one text alone does not fit in the GPU's memory; finished work is kept: cut texts with "
        "dataset.NAME.max_length, or let less be held at a time with token_budget=1024."
    )


def _stop(message: str, status: int = 2) -> None:
    print(f"{_ERROR}{' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)


def _keep_freed_memory() -> None:
    """Keep what is freed for the next tensor: asking the system anew costs a page fault every 4 KiB.

    On a CPU that is a good part of the time of long texts. glibc alone has these settings.
    """
    mmap_max, trim_threshold, top_pad, arena_max = -4, -1, -2, -8
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(top_pad, 2**28)
        mallopt(arena_max, 1)  # worker threads come and go; what one frees is for the next


def _quiet() -> None:
    """Leave the terminal to the stages' own progress bars; a library that no stage loaded stays unloaded."""
    if "datasets" in sys.modules:
        import datasets

        datasets.disable_progress_bars()
        datasets.utils.logging.set_verbosity(datasets.logging.CRITICAL)  # its errors are raised too
    if "huggingface_hub" in sys.modules:
        import huggingface_hub

        huggingface_hub.utils.logging.set_verbosity_error()
    if "transformers" in sys.modules:
        import transformers

        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
