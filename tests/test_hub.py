"""The paper's preset, shrunken, through a hub on the loopback address: fetched once, then cached."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import datasets
import huggingface_hub.constants
import pandas as pd
import pytest
import torch
import transformers
from datasets import Dataset
from hub import Hub
from huggingface_hub.utils import httpx

from iba.errors import UserError
from iba.hub import cached_first
from iba.models.pretrained import load_classifier
from iba.models.tiny import tiny_bert, tiny_tokenizer

ROOT = Path(__file__).resolve().parent.parent
MODEL = "owner/tiny"
# Per repository and configuration: the splits, the text columns and the number of classes.
REPOSITORIES = {
    "stanfordnlp/imdb": {"plain_text": (("train", "test"), ("text",), 2)},
    "fancyzhx/ag_news": {"default": (("train", "test"), ("text",), 4)},
    "nyu-mll/glue": {
        "mnli": (
            ("train", "validation_matched", "validation_mismatched"),
            ("premise", "hypothesis"),
            3,
        ),
        "rte": (("train", "validation"), ("sentence1", "sentence2"), 2),
    },
}
SETS = ("imdb", "mnli_matched", "mnli_mismatched", "agnews", "rte")
SHRUNKEN = (
    "preset=paper",
    "device=cpu",
    f"model.hub={MODEL}",
    "protocol=[described]",
    "study=[]",
    "only=[tables]",
    "stats.n_resamples=10",
    "method.iba.settings={n_steps: 1, n_copies: 1, n_statistics: 4}",
    "method.lime.settings.n_samples=4",
    "method.ig.settings.n_steps=1",
    *(
        f"++dataset.{name}={{max_length: 16, n_train: 8, n_calibration: 2, n_test: 2, n_accuracy: 2, "
        "accuracy_floor: 0, finetune: {epochs: 1, batch_size: 8}}"
        for name in SETS
    ),
)


def repository(folder: Path, configs: dict[str, tuple[tuple[str, ...], tuple[str, ...], int]]) -> None:
    """A data set of 16 rows a split, laid out as on the hub."""
    card = ["---", "configs:"]
    for config, (splits, columns, n_classes) in configs.items():
        card += [f"- config_name: {config}", "  data_files:"]
        for split in splits:
            card += [f"  - split: {split}", f"    path: {config}/{split}-*"]
            texts = {c: [f"the {c} of the {split} number {i} was good" for i in range(16)] for c in columns}
            rows = Dataset.from_dict(texts | {"label": [i % n_classes for i in range(16)]})
            rows.to_parquet(folder / config / f"{split}-00000-of-00001.parquet")
    (folder / "README.md").write_text("\n".join([*card, "---", ""]))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    root = tmp_path_factory.mktemp("hub")
    for name, configs in REPOSITORIES.items():
        for config in configs:
            (root / "datasets" / name / config).mkdir(parents=True)
        repository(root / "datasets" / name, configs)
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    tiny = tiny_bert(len(tokenizer), ["a", "b"], hidden_size=16, num_hidden_layers=2, intermediate_size=16)
    tiny.bert.save_pretrained(root / MODEL)
    tokenizer.save_pretrained(root / MODEL)
    with Hub(root).serving() as serving:
        yield serving


def run(hub: Hub, home: Path, script: str, *overrides: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A script in a process of its own, online; `home`: its Hugging Face cache."""
    kept = {k: v for k, v in os.environ.items() if "OFFLINE" not in k and not k.lower().endswith("_proxy")}
    # Else `datasets` tells a server of its own that a data set was loaded.
    online = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_UPDATE_DOWNLOAD_COUNTS": "0"}
    command = [sys.executable, str(ROOT / "scripts" / f"{script}.py"), *SHRUNKEN, *overrides]
    return subprocess.run(command, env=kept | online | env, capture_output=True, text=True, check=False)


def test_the_paper_preset_through_a_hub(hub: Hub, tmp_path: Path) -> None:
    [hours] = (ROOT / "results").glob("*/times.csv")  # of the paper's published numbers
    published = tmp_path / "results" / hours.parent.name
    shutil.copytree(hours.parent, published)
    before = {path.name: path.read_bytes() for path in published.iterdir()}
    home = tmp_path / "home"

    done = run(hub, home, "reproduce", f"paths.root={tmp_path}")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "results" / "paper" / "table1.csv")
    assert set(table["dataset"]) == set(SETS)
    assert set(table["method"]) == {"iba", "ig", "lime", "random"}
    assert {name: (published / name).read_bytes() for name in before} == before
    fetched = [line for line in hub.requests if line.startswith("GET") and "/resolve/" in line]
    assert len(fetched) == len(set(fetched)), "nothing is fetched twice"

    hub.requests.clear()
    again = run(hub, home, "finetune", "dataset=[imdb,rte]", f"paths.root={tmp_path / 'again'}")
    assert again.returncode == 0, again.stderr
    assert "imdb: accuracy" in again.stdout
    assert hub.requests == [], "what is cached needs no network"

    hub.breaks = "model.safetensors"
    elsewhere = {"HF_HUB_CACHE": str(tmp_path / "models")}
    cut = run(hub, home, "finetune", "dataset=[rte]", f"paths.root={tmp_path / 'cut'}", **elsewhere)
    assert cut.returncode == 2
    [line] = cut.stderr.splitlines()
    assert line.startswith(f"error: model '{MODEL}' cannot be loaded")


def switches() -> tuple[bool, bool]:
    return huggingface_hub.constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize("cached", [True, False])
def test_the_network_is_asked_only_for_what_the_cache_lacks(
    cached: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []
    torch.manual_seed(0)
    head = torch.rand(1)
    torch.manual_seed(0)

    @cached_first
    def load(source: str | Path) -> torch.Tensor:
        seen.append(switches())
        drawn = torch.rand(1)
        if switches() == (True, True) and not cached:
            raise UserError("not in the cache")
        return drawn

    assert load("owner/name") == head, "the same whether cached or not"
    assert seen == [(True, True), (False, False)][: 1 if cached else 2]
    assert ("owner/name: not in the cache" in capsys.readouterr().out) is not cached
    assert switches() == (False, False)


@pytest.mark.parametrize("offline", [True, False])
def test_a_folder_is_read_once_and_so_is_everything_offline(
    tmp_path: Path, request: pytest.FixtureRequest, offline: bool
) -> None:
    if not offline:
        request.getfixturevalue("online")
    seen = []

    @cached_first
    def load(source: str | Path) -> None:
        seen.append(switches())
        raise UserError("damaged")

    with pytest.raises(UserError, match="damaged"):
        load("owner/name" if offline else tmp_path)
    assert seen == [(offline, offline)]


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize(
    "part", [transformers.AutoTokenizer, transformers.AutoModelForSequenceClassification]
)
def test_a_dropped_connection_is_one_line(part: type, monkeypatch: pytest.MonkeyPatch) -> None:
    def drop(*_: object, **__: object) -> None:
        raise httpx.RemoteProtocolError("peer closed connection")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda _: tiny_tokenizer())
    monkeypatch.setattr(part, "from_pretrained", drop)
    with pytest.raises(UserError, match=r"'owner/name' cannot be loaded \(peer closed connection\)"):
        load_classifier("owner/name")
