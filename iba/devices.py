"""Which device and precision a run uses."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from iba.errors import UserError

Precision = Literal["auto", "fp32", "bf16"]
#: Devices that copy from pinned memory without being waited for.
_COPIES_ALONGSIDE = ("cuda",)


def resolve_device(asked: object) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU; `UserError` for a device that is not there."""
    name = str(asked)  # a configuration may hold a number
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError("device=cuda was asked for, but no CUDA device is visible; use device=cpu.")
    try:
        device = torch.device(name)
        # torch knows many names whose device is not in this machine, and GPUs that it has no kernels for.
        made = torch.zeros(1, device=device).add_(1)
        made.item()  # "meta" computes nothing
        if device.index and made.device.index is None:
            raise RuntimeError(f"there is one device {device.type}, without a number")
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"device={name} cannot be used; choose auto, cpu, cuda, cuda:1 … torch says: {reason}"
        ) from error
    return device


def sent(tensor: Tensor, device: torch.device | str) -> Tensor:
    """`tensor`, of the CPU, on `device`: a GPU need not first finish the work that it has."""
    if torch.device(device).type in _COPIES_ALONGSIDE:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def resolve_precision(name: str, device: torch.device) -> str:
    """`auto` is bf16 where the device computes in it natively, else fp32."""
    if name != "auto":
        return name
    return "bf16" if _has_bf16(device) else "fp32"


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        with torch.cuda.device(device):  # torch asks the current one
            return torch.cuda.is_bf16_supported(including_emulation=False)
    # torch has no public question for this yet; without the answer, fp32 is always right.
    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return bool(asked())
