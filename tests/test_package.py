"""The package as it is installed elsewhere: without a checkout beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from iba.models.tiny import tiny_bert, tiny_tokenizer

_ASK = """
import sys
from pathlib import Path
import iba
assert Path(iba.__file__).is_relative_to(sys.argv[1]), iba.__file__
found = iba.explain("The lecture was wonderful.", sys.argv[2], methods=["iba", "ig"])
print(found.target, *(len(method.scores) for method in found.methods))
"""


def test_an_installed_wheel_explains_without_a_checkout(repository: Path, tmp_path: Path) -> None:
    source, wheels, site, model = (tmp_path / name for name in ("source", "wheels", "site", "model"))
    for folder in ("iba", "baselines", "configs"):
        shutil.copytree(repository / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / file, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    built = ["wheel", str(source), "--no-deps", "--no-build-isolation", "--no-index", "-w", str(wheels)]
    subprocess.run([*pip, *built], check=True)
    (wheel,) = wheels.glob("*.whl")
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)], check=True
    )
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    tiny_bert(len(tokenizer), ["bad", "good"]).save_pretrained(model)
    tokenizer.save_pretrained(model)
    asked = subprocess.run(
        [sys.executable, "-P", "-c", _ASK, str(site), str(model)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.split() in (["bad", "7", "7"], ["good", "7", "7"])
