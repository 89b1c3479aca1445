"""The sections of the configuration: every setting, its type and its range."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from iba.devices import Precision
from iba.evaluation.ranking import FIRST_STEP, Order
from iba.pipeline.experiment import Target
from iba.pipeline.parts import Shard
from iba.settings import (
    Count,
    Inner,
    Layer,
    Name,
    NotNegative,
    Positive,
    RunName,
    Section,
    Seed,
    Share,
    Text,
)

#: Two special tokens of a single text, three of a pair, and one to read.
Tokens = Annotated[int, Field(ge=4)]
#: What one method may try, so may every other.
MOST_TRIES = 7
#: None takes all.
Size = Count | None
#: Whether blocks of our own run the model: where they can, in any case, never.
Fast = Literal["auto"] | bool
ReportPart = Literal["tables", "methods", "figures", "verdicts", "html"]


def _mistake(wanted: str) -> PydanticCustomError:
    return PydanticCustomError("setting", f"Input should {wanted}")


def _table1_step(points: int) -> int:
    if points < 2 or not np.isclose(np.linspace(0, 1, points), FIRST_STEP).any():
        raise _mistake("put a step at 1/9 (11 %), Table 1's: take 10, 19, 28, …")
    return points


class Shape(Section):
    """A random encoder's."""

    hidden_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    intermediate_size: Count

    @model_validator(mode="after")
    def _heads_share_the_features(self) -> Shape:
        if self.hidden_size % self.num_attention_heads:
            raise _mistake(f"have a hidden_size ({self.hidden_size}) that num_attention_heads divides")
        return self


class Model(Section):
    """The encoder."""

    name: Name
    title: str
    hub: Text | None
    packaged: dict[str, str | list[str]] | None = None
    tiny: Shape | None = None
    random: Shape | None = None
    note: str | None


class Training(Section):
    """How one data set's classifier is trained."""

    epochs: Positive
    batch_size: Count
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    model_settings: dict[str, Any] | None = Field(None, alias="model_config")  # the name is pydantic's own


class Paper(Section):
    """The paper's choices for one data set."""

    layer: Layer
    beta: NotNegative


class DataSet(Section):
    """One data set."""

    name: Name
    title: str
    train_name: Name
    source: dict[str, Any]
    text: Text
    text_pair: Text | None
    label: Text
    labels: Annotated[list[Text], Field(min_length=2)]
    authors_labels: list[Text]
    note: str | None
    max_length: Tokens
    n_train: Size
    n_calibration: Annotated[int, Field(ge=0)]
    n_test: Size
    n_accuracy: Size
    accuracy_floor: Share
    drop_unlabelled: bool
    annotated: list[list[Literal[0, 1]]] | None = None
    paper: Paper
    finetune: Training

    @model_validator(mode="after")
    def _classes_are_the_same(self) -> DataSet:
        if len(set(self.labels)) < len(self.labels) or {*self.labels} != {*self.authors_labels}:
            raise _mistake("have the same classes in labels and authors_labels, each once")
        return self


class Method(Section):
    """One method; its settings are its constructor's."""

    name: Name
    label: str
    color: str
    family: str = ""
    explains_class: bool = True
    protocols: Names | None = None
    n_test: dict[str, Size] | None = None
    settings: dict[str, Any]


class Protocol(Section):
    """One protocol; `methods` is what it changes of their settings, `tries` among them."""

    name: Name
    title: str
    methods: dict[str, dict[str, Any]]
    n_test: dict[str, Size] | None = None

    @model_validator(mode="after")
    def _tries_are_few(self) -> Protocol:
        if any(len(changes.get("tries") or []) > MOST_TRIES for changes in self.methods.values()):
            raise _mistake(f"have at most {MOST_TRIES} tries for a method, as all others")
        return self


class Removal(Section):
    """What the degradation test removes: with it what Table 1 is made of, deletion, most important first."""

    operators: list[Literal["delete", "mask", "attention"]]
    orders: list[Order]
    eraser_shares: list[Share]

    @model_validator(mode="after")
    def _table1_is_there(self) -> Removal:
        if "delete" not in self.operators or "most" not in self.orders:
            raise _mistake("hold operator 'delete' and order 'most', which Table 1 is made of")
        return self


class Degradation(Removal):
    """The degradation test."""

    n_points: Annotated[int, AfterValidator(_table1_step)]


class RandomOrders(Section):
    """Random orders of removal."""

    n_orders: Count
    operators: Annotated[list[Literal["delete", "mask", "attention"]], Field(min_length=1)]
    n_test: dict[str, Size]


class StudyText(Section):
    """A text of the user's."""

    text: Text
    text_pair: Text | None = None
    label: str


Values = Annotated[list[bool | int | float | str], Field(min_length=1)]
Names = Annotated[list[Name], Field(min_length=1)]


class Study(Section):
    """One study."""

    name: Name
    vary: str | None
    values: Values | None
    datasets: Names
    methods: Names
    settings: dict[str, Any]
    references: dict[str, Method]
    protocols: Names | None
    n_test: dict[str, Size]
    n_calibration: Size
    max_length: Tokens | None
    ids: dict[str, Annotated[list[Text], Field(min_length=1)]]
    texts: dict[str, Annotated[list[StudyText], Field(min_length=1)]]
    degradation: Removal

    @model_validator(mode="after")
    def _values_are_of_what_varies(self) -> Study:
        if self.values is None and self.vary not in (None, "layer"):
            raise _mistake(f"have values for {self.vary}, which varies")
        if self.values is not None and self.vary is None:
            raise _mistake("say by vary=SETTING what its values are of")
        return self


class Finetune(Section):
    """What is alike in all training."""

    seed: Seed
    precision: Precision
    weight_decay: NotNegative
    warmup: NotNegative
    # transformers' other schedules need settings of their own.
    schedule: Literal[
        "linear",
        "cosine",
        "cosine_with_restarts",
        "polynomial",
        "constant",
        "constant_with_warmup",
        "inverse_sqrt",
    ]
    save_every: Count


class Stats(Section):
    """Intervals and tests."""

    confidence: Inner
    n_resamples: Count
    n_permutations: Count
    seed: Seed


class Report(Section):
    """What the report shows."""

    methods_protocol: Name
    n_examples: Annotated[int, Field(ge=0)]
    verdicts: str | None


class Paths(Section):
    """Folders."""

    root: str
    results: Text
    cache: Text
    data_dir: str | None
    model_dir: str | None


class Scaling(Section):
    """What the benchmark's scaling goes through."""

    base_tokens: Count
    base_n: Count
    tokens: list[Count]
    instances: list[Count]
    batch: list[Count]
    layer_every: Count


class Benchmark(Section):
    """How the benchmark measures."""

    name: Name | None
    classifier: Literal["finetuned", "fresh"] | None
    precisions: Annotated[list[Literal["fp32", "bf16"]], Field(min_length=1)]
    n: Count
    repeats: Count
    timed_calls: Count
    reference_seconds: Positive
    n_fit: Count
    n_precision: dict[str, Count]
    matmul_size: dict[str, Count]
    scaling: Scaling
    full_rows: dict[str, Count]


class Gpu(Section):
    """How a quarter of an hour on a GPU is spent."""

    limit_minutes: Positive
    turn_minutes: dict[str, Positive]
    benchmark_datasets: Names
    rationed: Name
    least_texts: Count


class Settings(Section):
    """The whole configuration."""

    paths: Paths
    model: Model
    dataset: Annotated[dict[Name, DataSet], Field(min_length=1)]
    protocol: Annotated[dict[Name, Protocol], Field(min_length=1)]
    method: Annotated[dict[Name, Method], Field(min_length=1)]
    study: dict[Name, Study]
    known: dict[Name, Method]
    known_studies: dict[Name, Study]
    evident: dict[Name, DataSet]
    run: RunName | None
    preset_name: str | None
    note: str | None
    seed: Seed
    target: Target
    device: str | int
    precision: Precision
    token_budget: Count | Literal["auto"]
    memory_gb: Positive | None
    fast: Fast
    layers: Text | None
    part_size: Count
    shard: Annotated[str, AfterValidator(Shard.parse)]
    finetune: Finetune
    degradation: Degradation
    orders: RandomOrders
    stats: Stats
    only: list[ReportPart] | None
    report: Report
    benchmark: Benchmark | None = None
    cuda: dict[str, Any] | None = None
    gpu: Gpu | None = None


class Explaining(Section):
    """What explain.yaml holds beside the texts, the methods and where they come from."""

    max_length: Tokens
    seed: Seed
    device: str | int
    precision: Precision
    token_budget: Count
    fast: Fast
    layers: Text | None
    unit: Literal["words", "pieces"]
