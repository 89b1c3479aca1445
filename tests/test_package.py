"""The package as it is installed elsewhere: without a checkout beside it."""

from __future__ import annotations

import ast
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


#: What may import what: a member only those that stand before it, or beside it in its own line.
LAYERS = (
    "errors progress settings store devices hub",
    "data",
    "models",
    "attributor noise bottleneck attribution",
    "evaluation",
    "baselines",
    "pipeline display",
    "report own_text",
    "benchmark reproduce cli",
)


def imported(path: Path) -> set[str]:
    """The members of the project that a file imports."""
    found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    names = [f"{n.module}.{n.names[0].name}".split(".") for n in found if n.module]
    return {
        "baselines" if top == "baselines" else rest[0] for top, *rest in names if top in ("iba", "baselines")
    }


def test_imports_run_downwards(repository: Path) -> None:
    height = {member: layer for layer, members in enumerate(LAYERS) for member in members.split()}
    for path in [*repository.glob("iba/**/*.py"), *repository.glob("baselines/*.py")]:
        top, *rest = path.relative_to(repository).with_suffix("").parts
        own = "baselines" if top == "baselines" else rest[0]
        if own != "__init__":
            higher = {each for each in imported(path) if height[each] > height[own]}
            assert not higher, f"{path} imports {higher}"
