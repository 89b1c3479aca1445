"""What the benchmark counts and stores."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from toys import instance
from transformers import BertConfig

from iba.attribution import InformationBottleneck
from iba.attributor import Attribution
from iba.benchmark import ledger as ledgers
from iba.benchmark import measure, plots, run
from iba.benchmark.ledger import Ledger, Ledgers
from iba.benchmark.show import table_1_seconds
from iba.benchmark.subject import Subject
from iba.data.tokens import TokenBatch
from iba.errors import UserError
from iba.evaluation.stats import Resampling
from iba.models.classifier import Classifier
from iba.models.postnorm import PostNorm
from iba.models.pretrained import encoder_identity, new_classifier
from iba.models.tiny import tiny_bert, tiny_tokenizer
from iba.store import read_json


def test_flops_of_a_linear_map_forward_and_backward() -> None:
    """2·m·k·n forward; as much again for the gradient of the input, and for that of the weight."""
    x, w = torch.randn(4, 6, requires_grad=True), torch.randn(7, 6)
    assert measure.flops(lambda: F.linear(x, w)) == 2 * 4 * 6 * 7
    assert measure.flops(lambda: F.linear(x, w).sum().backward()) == 2 * (2 * 4 * 6 * 7)
    trained = w.clone().requires_grad_(True)
    assert measure.flops(lambda: F.linear(x, trained).sum().backward()) == 3 * (2 * 4 * 6 * 7)


def test_flops_of_attention() -> None:
    """Two products of 2·b·h·t·t·d forward, five more backward (the scores are computed again)."""
    q = torch.randn(2, 3, 5, 8, requires_grad=True)
    product = 2 * 2 * 3 * 5 * 5 * 8

    def forward() -> torch.Tensor:
        return F.scaled_dot_product_attention(q, q, q)

    with torch.no_grad():
        assert measure.flops(forward) == 2 * product
    assert measure.flops(lambda: forward().sum().backward()) == 7 * product


def test_flops_of_a_block_match_its_formula() -> None:
    """Per token 2·(4h² + 2hf), attention 4·t·h: the counter sees everything that the adapter runs."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    classifier = Classifier(tiny_bert(len(tokenizer), ["a", "b"]), tokenizer)
    hidden, batch, tokens, width, inner = torch.randn(3, 11, 32), 3, 11, 32, 64
    with torch.no_grad():
        counted = measure.flops(lambda: classifier.blocks[0](hidden, None))
    assert counted == batch * tokens * (2 * (4 * width**2 + 2 * width * inner) + 4 * tokens * width)


@pytest.mark.parametrize(("native", "precisions"), [("bf16", ["fp32", "bf16"]), ("fp32", ["fp32"])])
def test_a_gpu_gets_larger_batches_and_what_it_computes_in_and_a_cpu_what_it_got(
    repository: Path, monkeypatch: pytest.MonkeyPatch, native: str, precisions: list[str]
) -> None:
    monkeypatch.setattr(ledgers, "resolve_precision", lambda name, device: native)
    with initialize_config_dir(str(repository / "configs"), version_base="1.3"):
        cfg = compose("benchmark", ["preset=cpu", "dataset=rte"])
    assert ledgers.sized(cfg, torch.device("cpu")) is cfg
    larger = ledgers.sized(cfg, torch.device("cuda"))
    assert (larger.token_budget, larger.benchmark.n, larger.benchmark.repeats) == (65536, 16, 16)
    assert larger.benchmark.precisions == precisions
    assert larger.benchmark.scaling.tokens == cfg.benchmark.scaling.tokens
    assert set(larger.benchmark) == set(cfg.benchmark)
    assert (cfg.token_budget, cfg.benchmark.n, len(cfg.benchmark.precisions)) == (2048, 2, 2)


def test_the_reference_is_warmed_up_on_every_length_that_a_gpu_is_timed_on() -> None:
    instances = [instance([2, *[9] * n, 3], [True, *[False] * n, True]) for n in (5, 3, 5, 8)]
    lengths = [len(i) for i in run.warm_up(instances, torch.device("cuda"))]
    assert lengths == [7, 5, 10]
    assert run.warm_up(instances, torch.device("cpu")) == [instances[1]]


def test_an_encoder_of_random_weights_needs_a_tokenizer_alone(repository: Path, tmp_path: Path) -> None:
    with initialize_config_dir(str(repository / "configs"), version_base="1.3"):
        cfg = compose("benchmark", ["model=bert_base_random", "benchmark.classifier=fresh"])
    full = BertConfig(**cfg.model.random)
    assert full.to_dict() == BertConfig().to_dict(), "transformers' default is bert-base's shape"
    small = OmegaConf.merge(cfg.model, {"random": {"hidden_size": 24, "intermediate_size": 48}})
    tiny_tokenizer().save_pretrained(tmp_path)
    model, tokenizer = new_classifier(small, str(tmp_path), ["a", "b", "c"], 0)
    assert len(model.bert.encoder.layer) == 12
    assert tuple(model.get_input_embeddings().weight.shape) == (len(tokenizer), 24)
    assert model.config.num_labels == 3
    again, _ = new_classifier(small, str(tmp_path), ["a", "b", "c"], 0)
    assert torch.equal(again.classifier.weight, model.classifier.weight)
    assert encoder_identity(cfg.model, None) == {"name": "bert_base_random", "random": dict(cfg.model.random)}
    with pytest.raises(UserError, match="holds no tokenizer"):
        new_classifier(small, str(tmp_path / "nothing"), ["a", "b"], 0)


def test_rows_are_measured_once_and_kept(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, "here", ("operation", "dataset"), {"n": 2})
    ledger.open()
    key = {"operation": "iba", "dataset": "rte"}
    first = ledger.measure(key, lambda: [{"ours_ms": 1.5}, {"ours_ms": 2.5}])
    ledger.measure({"operation": "ig", "dataset": "rte"}, lambda: [{"ours_ms": 9.0}])
    again = Ledger(tmp_path, "here", ("operation", "dataset"), {"n": 2})
    again.open()
    assert again.measure(key, lambda: pytest.fail("measured twice")) == first
    assert list(again.rows()["ours_ms"]) == [1.5, 2.5, 9.0]


def test_other_settings_are_refused(tmp_path: Path) -> None:
    Ledger(tmp_path, "here", ("operation",), {"n": 2}).open()
    with pytest.raises(UserError, match="n: 2 → 3"):
        Ledger(tmp_path, "here", ("operation",), {"n": 3}).open()


def test_other_rows_of_a_data_set_are_refused_and_other_data_sets_may_follow(tmp_path: Path) -> None:
    def ledger(**lengths: int) -> Ledger:
        cuts = {name: {"max_length": length} for name, length in lengths.items()}
        return Ledger(tmp_path, "here", ("operation", "dataset"), {"n": 2}, cuts)

    ledger(imdb=512).open()
    ledger(rte=256).open()
    record = read_json(ledger().record)
    assert record["settings"] == {
        "n": 2,
        "dataset": {"imdb": {"max_length": 512}, "rte": {"max_length": 256}},
    }
    with pytest.raises(UserError, match=r"dataset.imdb.max_length: 512 → 64"):
        ledger(imdb=64, rte=256).open()
    assert read_json(ledger().record) == record


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("dataset=[rte]", None),
        ("dataset=[agnews,rte,imdb]", None),
        ("dataset.rte.paper.layer=0.5", r"dataset.rte.methods.iba.layer: 0.83\d* → 0.5"),
        ("dataset.rte.n_calibration=3", "dataset.rte.n_calibration: 64 → 3"),
        ("degradation.n_points=19", "n_points: 10 → 19"),
        ("finetune.seed=4", "finetune.seed: 3 → 4"),
    ],
)
def test_a_benchmark_goes_on_with_other_data_sets_but_not_with_other_work(
    repository: Path, tmp_path: Path, change: str, expected: str | None
) -> None:
    def claim(*asked: str) -> None:
        with initialize_config_dir(str(repository / "configs"), version_base="1.3"):
            paths = f"paths.root={repository}", f"paths.results={tmp_path}"
            cfg = compose("benchmark", ["preset=cpu", "device=cpu", "dataset=[imdb,rte]", *paths, *asked])
        Ledgers(cfg).open("", "operation")

    claim()
    if expected is None:
        claim(change)
    else:
        with pytest.raises(UserError, match=expected):
            claim(change)


def test_table_1_projection_counts_the_degradation_of_four_methods() -> None:
    rows = pd.DataFrame(
        [
            {"dataset": "a", "operation": "iba", "ours_ms": 9.0},
            {"dataset": "a", "operation": "iba", "ours_ms": 3.0},
            {"dataset": "a", "operation": "degradation", "ours_ms": 0.5},
            {"dataset": "b", "operation": "iba", "ours_ms": 7.0},
        ]
    )
    assert table_1_seconds(rows, {"a": 1000, "b": 100}) == pytest.approx(3 + 4 * 0.5 + 0.7)
    assert table_1_seconds(rows, {"a": 1000, "c": 1}) is None


def test_precision_is_summed_up_from_its_instances() -> None:
    fp32, bf16 = [0.2, 0.4, 0.6], [0.3, 0.4, 0.5]
    rows = [
        {"instance_id": str(i), "rank_correlation": 1 - 0.1 * i, "drop_fp32": a, "drop_bf16": b}
        for i, (a, b) in enumerate(zip(fp32, bf16, strict=True))
    ]
    (found,) = run.summary(rows, Resampling(), torch.device("cpu"))
    assert (found["n"], found["rank_correlation_median"]) == (3, pytest.approx(0.9))
    assert found["mean_drop_difference"] == pytest.approx(0.0, abs=1e-12)
    assert found["difference_low"] == pytest.approx(-0.1)  # one of 27 resamples: over 2.5 %
    assert found["difference_high"] == pytest.approx(0.1)


def test_scaling_plot_is_drawn_from_stored_rows(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        [
            {"sweep": sweep, "operation": "iba", "value": v, "ms": 10.0 * v, "ms_per_instance": 5.0 * v}
            for sweep in ("tokens", "instances", "batch", "layer")
            for v in (1, 2, 4)
        ]
    ).assign(dataset="rte", precision="bf16", tokens=32, n=2)
    plots.scaling(rows, {"iba": ("IBA", "#0072B2")}, "a CPU", tmp_path / "here_scaling")
    assert (tmp_path / "here_scaling.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "here_scaling.pdf").read_bytes().startswith(b"%PDF")


def test_both_sides_are_counted_per_instance(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["preset=smoke", "dataset=planted", "method=[iba]", "benchmark.classifier=fresh", "benchmark.n=2"]
    asked += ["benchmark.repeats=3", f"paths.root={repository}", f"paths.cache={tmp_path}"]
    with initialize_config_dir(str(repository / "configs"), version_base="1.3"):
        cfg = compose("benchmark", asked)
    subject = Subject.open(cfg, "planted")
    assert subject.instances(2)[0] is subject.instances(2)[0], "tokenised once"
    words = " ".join(e.text for e in subject.task.samples.test).split()
    second = subject.of_length(len(words) + 2, 2)[1].example.text.split()
    assert second == (words[len(words) // 2 :] + words * 2)[: len(words) + 2], "from the half on, then anew"
    monkeypatch.setattr(measure, "seconds", lambda work, device: (work(), 6.0)[1])
    monkeypatch.setattr(measure, "flops", lambda work: 600)
    monkeypatch.setattr(measure, "peak_memory", lambda work, device: 1.0)
    (row,) = run._compare(subject, subject.operations["degradation"], {"fp32": 1000.0})
    assert (row["reference_ms"], row["ours_ms"], row["ratio"]) == pytest.approx((3000.0, 1000.0, 3.0))
    assert (row["flops"], row["flops_per_s"], row["peak_share"]) == pytest.approx((100, 100.0, 0.1))
    assert row["score_correlation"] == pytest.approx(1.0)


def test_everything_is_measured_once_in_the_precision_that_it_is_stored_under(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From one end to the other, with a method that says the opposite in bf16 and a clock that tells who ran:
    a call takes 8 s of the reference, 4 s of ours in fp32 and 2 s in bf16.
    """
    tiny = ["n=1", "repeats=2", "n_fit=4", "n_precision.default=2", "matmul_size.cpu=16"]
    tiny += ["scaling.base_tokens=8", "scaling.base_n=1", "scaling.tokens=[8,16,512]", "scaling.batch=[1,2]"]
    asked = [f"benchmark.{one}" for one in ("name=here", "classifier=fresh", "scaling.instances=[3]", *tiny)]
    asked += ["preset=smoke", "dataset=planted", "method=iba", "method.iba.settings.n_copies=2"]
    asked += ["method.iba.settings.n_steps=1", f"paths.root={repository}", f"paths.cache={tmp_path}/cache"]
    with initialize_config_dir(str(repository / "configs"), version_base="1.3"):
        cfg = compose("benchmark", [*asked, f"paths.results={tmp_path}", "dataset.planted.max_length=64"])
    ran: list[str] = []
    made: set[tuple[int, int, int]] = set()
    logits_from, attribute = PostNorm.logits_from, InformationBottleneck.attribute

    def noted(self: PostNorm, *others: Any) -> torch.Tensor:
        ran.append("bf16" if self.products.forward else "fp32")
        return logits_from(self, *others)

    def opposite(
        self: InformationBottleneck, classifier: Classifier, batch: TokenBatch, target: torch.Tensor
    ) -> Attribution:
        found = attribute(self, classifier, batch, target)
        if batch.instances[0].id.startswith("made"):
            made.add((classifier.resolve_layer(self.layer), batch.input_ids.shape[1], len(batch)))
        return Attribution(-found.scores) if classifier.precision == "bf16" else found

    def clock(work: Any, device: torch.device) -> float:
        ran.clear()
        work()
        assert len(set(ran)) <= 1
        return {"fp32": 4.0, "bf16": 2.0}[ran[0]] if ran else 8.0

    def dropped(found: Sequence[Any], classifier: Classifier, instances: Sequence[Any]) -> np.ndarray:
        return np.full(len(instances), {"fp32": 0.5, "bf16": 0.25}[classifier.precision])

    monkeypatch.setattr(PostNorm, "logits_from", noted)
    monkeypatch.setattr(InformationBottleneck, "attribute", opposite)
    monkeypatch.setattr(measure, "seconds", clock)
    monkeypatch.setattr(run, "first_step_drops", dropped)
    run.run(cfg)

    folder = tmp_path / "benchmark"
    machine, compared, scaling, precision, instances = (
        pd.read_csv(folder / f"here{part}.csv")
        for part in ("_machine", "", "_scaling", "_precision", "_precision_instances")
    )
    assert machine[["precision", "matmul_size"]].to_numpy().tolist() == [["fp32", 16], ["bf16", 16]]
    assert (machine["matmul_flops_per_s"] == 2 * 16**3 / 8).all()
    known = [
        [operation, kind, 2, 1, 8000, *times]
        for operation in ("iba", "degradation")
        for kind, *times in (("fp32", 2000, 4), ("bf16", 1000, 8))
    ]
    columns = ["operation", "precision", "repeats", "n", "reference_ms", "ours_ms", "ratio"]
    assert compared[columns].to_numpy().tolist() == known
    assert compared["layer"].tolist()[:2] == [3, 3]
    assert compared["score_correlation"].tolist() == pytest.approx([1, -1, 1, 1], abs=0.05)
    np.testing.assert_allclose(compared["flops_per_s"], compared["flops"] / compared["ours_ms"] * 1e3)
    np.testing.assert_allclose(compared["peak_share"], compared["flops_per_s"] / 1024)
    assert (compared["peak_memory_mb"] > 1).all()
    assert instances.columns.tolist() == [
        "method", "dataset", "instance_id", "rank_correlation", "drop_fp32", "drop_bf16"
    ]  # fmt: skip
    assert instances["rank_correlation"].tolist() == pytest.approx([-1, -1], abs=0.05)
    columns = ["method", "dataset", "n", "mean_drop_fp32", "mean_drop_bf16"]
    assert precision[columns].to_numpy().tolist() == [["iba", "planted", 2, 0.5, 0.25]]
    assert precision["mean_drop_difference"].item() == -0.25

    adapter = pd.read_csv(folder / "here_adapter.csv")
    columns = ["operation", "n", "repeats", "adapter_ms", "blocks_ms", "ratio"]
    known = [[operation, 1, 2, 4000, 2000, 2] for operation in ("iba", "degradation")]
    assert adapter[columns].to_numpy().tolist() == known, "no block of ours may run: it would tell the clock"
    assert adapter["score_correlation"].tolist() == pytest.approx([1, 1])

    sweeps = [("tokens", 8, 8, 1), ("tokens", 16, 16, 1), ("instances", 3, 8, 3)]
    sweeps += [("batch", 1, 8, 2), ("batch", 2, 8, 2)]
    layers = [("layer", 1, 8, 1), ("layer", 3, 8, 1)]
    for operation, points in (("iba", sweeps + layers), ("degradation", sweeps)):
        rows = scaling[scaling["operation"] == operation]
        assert list(rows[["sweep", "value", "tokens", "n"]].itertuples(index=False, name=None)) == points
    assert (scaling["precision"] == "bf16").all()
    assert (scaling["ms"] == 2000).all()
    np.testing.assert_allclose(scaling["ms_per_instance"], 2000 / scaling["n"])
    assert made == {(3, 8, 1), (3, 16, 1), (3, 8, 3), (3, 8, 2), (1, 8, 1)}
    printed = capsys.readouterr().out
    assert "4.0×" in printed
    assert "-0.2500" in printed

    files = {path: path.read_bytes() for path in folder.glob("*.csv")}
    monkeypatch.setattr(measure, "seconds", lambda *_: pytest.fail("measured twice"))
    monkeypatch.setattr(InformationBottleneck, "attribute", lambda *_: pytest.fail("attributed twice"))
    run.run(cfg)
    assert files == {path: path.read_bytes() for path in folder.glob("*.csv")}


def test_cpu_work_is_timed_with_a_model_that_costs_nothing(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["preset=smoke", "dataset=planted", "benchmark.classifier=null", "benchmark.name=here"]
    asked += [
        "benchmark.scaling.tokens=[10,4096]",
        "benchmark.n=3",
        "benchmark.timed_calls=2",
        "method.iba.settings.n_copies=2",
    ]
    asked += [f"paths.root={repository}", f"paths.results={tmp_path}", f"paths.cache={tmp_path}/cache"]
    with initialize_config_dir(str(repository / "configs"), version_base="1.3"):
        cfg = compose("benchmark", asked)
    subject = Subject.open(cfg, "planted")
    for operation in subject.operations.values():
        (scores,) = operation.ours(subject.classifier, subject.of_length(10, 1))
        assert np.isfinite(scores).all()
        assert len(set(scores[1:-1])) > 5, "a token's own gradient, the text's own answer"

    clock = accumulate(cycle([0.0, 6.0, 0.0, 3.0]))  # of the two calls for three texts the second takes 3 s
    with monkeypatch.context() as patch:
        patch.setattr(measure.time, "process_time", lambda: next(clock))
        run.run(cfg)
    rows = pd.read_csv(tmp_path / "benchmark" / "here_host.csv").set_index("operation")
    assert list(rows.index) == ["iba", "lime", "ig", "degradation", "lime as released"]
    assert (rows[["tokens", "n", "cpu_ms"]].to_numpy() == [10, 3, 1000]).all(), "longer texts would be cut"
    compared = rows.loc[["lime", "degradation", "lime as released"]]
    assert (compared["straightforward_cpu_ms"] == 1000).all()
    assert (compared["largest_difference"] < 1e-6).all()
    assert rows.loc[["iba", "ig"], "straightforward_cpu_ms"].isna().all()
    assert "largest difference" in capsys.readouterr().out
    monkeypatch.setattr(measure, "cpu_seconds", lambda *_: pytest.fail("measured twice"))
    run.run(cfg)
