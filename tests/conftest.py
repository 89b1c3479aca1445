"""What every test shares: no network, one thread, shapes checked at run time, a tiny random classifier."""
# ruff: noqa: E402 - the environment and the import hook must come before the project's own imports.

from __future__ import annotations

import gc
import os

# Before any library is imported: these are read once.
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    HF_DATASETS_DISABLE_PROGRESS_BARS="1",
    TOKENIZERS_PARALLELISM="false",
    OMP_NUM_THREADS="1",
)
if os.environ.get("TEST_CUDA") != "1":  # elsewhere "auto" must mean the CPU, on every machine
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import warnings

from beartype.roar import BeartypeDecorHintPep585DeprecationWarning
from checking import check_packages

# Raised while the packages are imported, of omegaconf's own typing.MutableMapping (2.3.1, seen 2026-11).
warnings.filterwarnings("ignore", category=BeartypeDecorHintPep585DeprecationWarning)
check_packages("iba", "baselines")

from collections import defaultdict
from collections.abc import Iterator
from copy import copy
from functools import cache
from pathlib import Path

import datasets
import jaxtyping
import pytest
import torch
from hypothesis import HealthCheck, settings

from iba.attributor import FitData
from iba.data.examples import Example
from iba.data.tokens import Instance, TokenBatch, tokenise
from iba.models.classifier import Classifier
from iba.models.tiny import tiny_bert, tiny_tokenizer

torch.set_num_threads(1)
# The same examples every time, however slow the machine is, and nothing kept of a failure.
settings.register_profile(
    "tests",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tests")

#: Warnings are errors, but for these: each with its reason and the date it was last seen.
EXPECTED_WARNINGS = (
    # omegaconf 2.3.1 declares its classes with typing.MutableMapping, and beartype says so (2026-11).
    "ignore::beartype.roar.BeartypeDecorHintPep585DeprecationWarning",
)


def pytest_collection_finish() -> None:
    """All that is loaded by now stays: it need not be searched for garbage over and over."""
    gc.collect()
    gc.freeze()


def pytest_configure(config: pytest.Config) -> None:
    for line in ("error", *EXPECTED_WARNINGS):
        config.addinivalue_line("filterwarnings", line)


@pytest.fixture(scope="session", autouse=True)
def _datasets_cache_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What `datasets` converts during tests is not left in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the project."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes are not checked: for what only repeats a run, which they slow down twofold."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@cache
def random_classifier() -> tuple[Classifier, torch.Tensor]:
    """A random four-layer BERT of three classes, and the generator's state once it was made."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    model = tiny_bert(len(tokenizer), ["entailment", "neutral", "contradiction"])
    for name, parameter in model.named_parameters():
        # Wider than the default initialisation: norms and biases that do something, logits that differ.
        torch.nn.init.normal_(parameter, mean=float("LayerNorm.weight" in name), std=0.2)
    return Classifier(model, tokenizer), torch.get_rng_state()


@pytest.fixture
def classifier() -> Iterator[Classifier]:
    """A random four-layer BERT of three classes whose logits depend visibly on its input.

    Its model is that of other tests, until one of them changes it.
    """
    made, drawn = random_classifier()
    torch.set_rng_state(drawn)
    before = state(made)
    view = copy(made)
    view.fitting = defaultdict(dict)
    yield view
    if state(made) != before:
        random_classifier.cache_clear()


def state(classifier: Classifier) -> list[object]:
    """What a test might change of the model."""
    model = classifier.model
    where = [(p.dtype, p.device, p.requires_grad) for p in model.parameters()]
    sums = [float(p.detach().sum()) for p in model.parameters() if not p.is_meta]
    return [*where, *sums, model.training, model.config._attn_implementation, str(model.config)]


@pytest.fixture
def instances(classifier: Classifier) -> list[Instance]:
    """Mixed lengths, single texts and pairs, as one data set never holds but a batch must bear."""
    single = [
        Example("test:0", "The lecture was wonderful.", None, 0),
        Example("test:1", "Anna walked from the station to the harbour on Monday. It felt awful.", None, 1),
        Example("test:2", "Superb!", None, 2),
    ]
    pairs = [
        Example("test:3", "Ben has a red coat. The lecture was poor.", "The coat of Ben is blue.", 2),
        Example("test:4", "A boat.", "Anna met Ben at the library and wrote a letter on Sunday.", 0),
    ]
    found = [*tokenise(single, classifier.tokenizer, 64), *tokenise(pairs, classifier.tokenizer, 64)]
    return [found[i] for i in (3, 0, 1, 4, 2)]


@pytest.fixture
def batch(classifier: Classifier, instances: list[Instance]) -> TokenBatch:
    """All instances in one batch."""
    return classifier.batch(instances)


@pytest.fixture
def data(instances: list[Instance]) -> FitData:
    """The instances as what a method learns from."""
    return FitData(instances)
