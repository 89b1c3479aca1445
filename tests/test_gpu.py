"""A quarter of an hour on a GPU: what is run, in which order, for how long, and what goes on after a kill."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from composing import composed
from omegaconf import DictConfig

from iba.benchmark import gpu, measure, projection
from iba.benchmark.gpu import Session
from iba.errors import UserError
from iba.pipeline.checks import check_settings
from iba.pipeline.experiment import datasets, selected

GIVEN = [
    "device=cpu",
    "dataset.rte.n_test=4",
    "dataset.imdb.n_test=9",
    "benchmark.n=1",
    "gpu.limit_minutes=2",
]
PARTS = {"tests": ("a",), "finetune": ("b",), "attribute": ("c",)}


@pytest.fixture
def cfg(tmp_path: Path) -> DictConfig:
    return composed(*GIVEN, f"paths.results={tmp_path}", config="gpu")


def test_every_part_is_a_script_and_gets_of_the_given_what_it_knows(cfg: DictConfig) -> None:
    """Each is composed as its script would, which refuses what it does not know."""
    parts = gpu.plan(cfg, GIVEN, "gpu", 700)
    first = ["tests", "projection", "finetune", "attribute", "degrade", "benchmark"]
    assert [*parts] == [*first, "attribute imdb", "degrade imdb", "report"]
    found = {}
    for name, (script, *overrides) in [*parts.items()][1:]:
        assert Path(script).is_file()
        config = "gpu" if "--config-name=gpu" in overrides else "config"
        found[name] = composed(*(one for one in overrides if one[0] != "-"), config=config)
        check_settings(found[name])
        assert found[name].device == "cpu"
    short = ["rte", "agnews", "mnli_matched", "mnli_mismatched"]
    assert {name: [*datasets(one)] for name, one in found.items()} == {
        "projection": [*short, "imdb"],
        "finetune": [*short, "imdb"],
        "attribute": short,
        "degrade": short,
        "benchmark": ["mnli_matched", "imdb"],
        "attribute imdb": ["imdb"],
        "degrade imdb": ["imdb"],
        "report": [*short, "imdb"],
    }
    assert found["attribute"].dataset.rte.n_test == 4
    assert found["attribute"].dataset.agnews.n_test is None, "the whole test set"
    assert [*selected(found["attribute"].protocol)] == ["corrected"]
    last = found["attribute imdb"]
    assert [*selected(last.method)] == ["iba", "ig", "lime", "random"]
    assert all(each.n_test == {"imdb": 700} for each in selected(last.method).values())
    assert last.dataset.imdb.n_test == 9
    shape = found["projection"]
    assert (shape.preset_name, shape.model.name, shape.benchmark.n) == ("paper", "bert_base_random", 1)
    assert not gpu.plan(cfg, GIVEN, "gpu", None)["attribute imdb"], "not before its size is known"


def test_a_session_goes_on_where_the_last_one_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called: list[tuple[str, float]] = []
    statuses = {"a": 1, "b": None, "c": 0}

    def call(arguments: gpu.Arguments, seconds: float) -> int | None:
        called.append((arguments[0], round(seconds)))
        return statuses[arguments[0]]

    monkeypatch.setattr(gpu, "call", call)
    session = Session(tmp_path, 60.0)
    for most in (20.0, 100.0):
        for name in PARTS:
            session.work(name, PARTS, most)
    assert called == [("a", 20), ("b", 20), ("c", 20), ("b", 60)], "what failed is not tried again"
    assert session.left(PARTS) == ["tests (failed)", "finetune"]
    assert "done: attribute; left: tests (failed), finetune" in capsys.readouterr().out

    called.clear()
    statuses |= {"a": 0, "b": 0}
    again, other = Session(tmp_path, 60.0), PARTS | {"attribute": ("c", "dataset.rte.n_test=4")}
    for name in other:
        again.work(name, other, 20.0)
    assert [name for name, _ in called] == ["a", "b", "c"], "what is asked for otherwise is left"
    assert again.left(other) == []
    called.clear()
    third = Session(tmp_path, 60.0)
    third.record["seconds"]["attribute"] = 15.0
    third.work("attribute", PARTS, 20.0)
    assert called == [("c", 5)], "its turn is that of all calls together"
    called.clear()
    Session(tmp_path, 0.0).work("finetune", PARTS, 20.0)
    assert not called, "no time"


@pytest.mark.parametrize(
    ("seconds", "texts"),
    [(420.0, 6), (4000.0, 9), (200.0, None)],  # 0.75 × seconds ÷ 50 s a text, of 9, at least 4
)
def test_the_rationed_set_gets_as_many_texts_as_time_allows(
    cfg: DictConfig, tmp_path: Path, seconds: float, texts: int | None
) -> None:
    cfg.gpu.least_texts = 4
    run = tmp_path / "bge_small_full"
    for name in datasets(cfg):
        n, tokens = (9, 50) if name == "imdb" else (2, 10)
        rows = pd.DataFrame({"n_tokens": [tokens] * n + [999], "attributed": [True] * n + [False]})
        path = run / name / "classifiers" / "seed=3" / "classifier.parquet"
        path.parent.mkdir(parents=True)
        rows.to_parquet(path)
    session = Session(run, seconds)
    session.ration(cfg)
    assert session.texts is None, "nothing is known of the others' time"
    session.record |= {
        "finished": {"attribute": [], "degrade": []},
        "seconds": {"attribute": 60, "degrade": 20},
    }
    cfg.gpu.rationed = "another"
    session.ration(cfg)
    assert session.texts is None, "the set is not selected"
    cfg.gpu.rationed = "imdb"
    session.ration(cfg)
    assert session.texts == texts
    session.record["seconds"]["attribute"] = 1.0
    if texts:
        session.ration(cfg)
        assert session.texts == texts, "decided once: rows of another size would be refused"


def test_what_is_left_is_told_and_ends_the_command_with_an_error(
    cfg: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hydra:
        class overrides:
            task = GIVEN

        class runtime:
            choices = {"preset": "gpu"}  # noqa: RUF012

    monkeypatch.setattr(gpu.HydraConfig, "get", lambda: Hydra)
    monkeypatch.setattr(gpu, "call", lambda arguments, seconds: 0 if arguments[0] == "-m" else 2)
    with pytest.raises(UserError, match=r"not finished: projection \(failed\), .*attribute imdb, .*goes on"):
        gpu.run(cfg)
    cfg.device = "cuda"
    monkeypatch.setattr(gpu, "call", lambda *_: pytest.fail("without a GPU nothing is begun"))
    with pytest.raises(UserError, match="no CUDA device"):
        gpu.run(cfg)


def test_a_part_is_killed_when_its_time_is_up() -> None:
    started = time.monotonic()
    assert gpu.call(("-c", "import time; time.sleep(60)"), 0.5) is None
    assert time.monotonic() - started < 30
    assert gpu.call(("-c", "import os, iba, sys; sys.exit(3 + (os.environ['TEST_CUDA'] == '1'))"), 60.0) == 4


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 warns of a fork beside threads
def test_a_part_dies_with_its_parent(tmp_path: Path) -> None:
    number = tmp_path / "pid"
    code = f"import os, time; open({str(number)!r}, 'w').write(f'{{os.getpid()}}\\n'); time.sleep(60)"
    parent = multiprocessing.get_context("fork").Process(target=gpu.call, args=(("-c", code), 60.0))
    parent.start()
    while not (number.is_file() and number.read_text().endswith("\n")):
        time.sleep(0.05)
    assert parent.pid
    os.kill(parent.pid, signal.SIGKILL)
    parent.join()
    part = Path("/proc", number.read_text().strip(), "status")
    for _ in range(200):
        if not part.is_file() or "State:\tZ" in part.read_text():
            return
        time.sleep(0.05)
    pytest.fail("the part outlives its parent")


def test_table_1_is_projected_from_operations_and_the_nearest_passes() -> None:
    passes = pd.DataFrame(
        [
            {"work": projection.FORWARD, "tokens": 32, "flops_per_s": 100.0},
            {"work": projection.FORWARD, "tokens": 128, "flops_per_s": 400.0},
            {"work": projection.BACKWARD, "tokens": 128, "flops_per_s": 200.0},
        ]
    )
    known = [
        ("iba", projection.BACKWARD, 40.0, 600),
        ("lime", projection.FORWARD, 40.0, 500),
        ("degradation", projection.FORWARD, 90.0, 800),
    ]
    counts = pd.DataFrame(known, columns=["operation", "work", "mean_tokens", "flops"]).assign(dataset="a")
    found = projection.rates(counts, passes)
    assert list(found) == [200, 100, 400]
    assert projection.seconds_at(counts, {"a": 10}, found) == pytest.approx(10 * (3 + 5 + 4 * 2))
    assert projection.seconds_at(counts, {"a": 10}, 100.0) == pytest.approx(10 * (6 + 5 + 4 * 8))


def test_passes_are_timed_and_methods_counted_once(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["name=here", "classifier=fresh", "n=2", "n_fit=2", "matmul_size.cpu=16", "scaling.tokens=[16]"]
    asked = [f"benchmark.{one}" for one in asked]
    asked += ["preset=smoke", "dataset=planted", "token_budget=256", f"paths.results={tmp_path}"]
    cfg = composed(*asked, f"paths.cache={tmp_path}/cache", config="benchmark")
    cfg.benchmark.full_rows = {"planted": 1000}
    monkeypatch.setattr(measure, "seconds", lambda work, device: (work(), 2.0)[1])
    projection.run(cfg)
    passes, counts = (
        pd.read_csv(tmp_path / f"benchmark/here_tiny_{part}.csv") for part in ("passes", "flops")
    )
    assert passes[["work", "tokens", "n", "ms"]].to_numpy().tolist() == [
        [projection.FORWARD, 16, 4, 2000],  # a quarter of 256 tokens
        [projection.BACKWARD, 16, 4, 2000],
    ]
    forward, both = passes["flops"]
    layer = 4 * 16 * (2 * (4 * 32**2 + 2 * 32 * 64) + 4 * 16 * 32)
    assert 3 * layer < forward < 4 * layer, "of the last layer, only what the first token needs"
    assert 2 * forward <= both < 3 * forward
    assert (passes["peak_share"] == passes["flops"] / 2 / (2 * 16**3 / 2)).all()
    works = dict(zip(counts["operation"], counts["work"], strict=True))
    assert {name for name, work in works.items() if work == projection.BACKWARD} == {"iba", "ig"}
    assert {name for name, work in works.items() if work == projection.FORWARD} == {"lime", "degradation"}
    assert "Table 1 on all 1,000 instances" in capsys.readouterr().out
    monkeypatch.setattr(measure, "flops", lambda *_: pytest.fail("counted twice"))
    projection.run(cfg)


def test_the_page_projects_from_the_stored_operations(repository: Path) -> None:
    counts = pd.read_csv(repository / "results/benchmark/bert_base_flops.csv")
    full_rows = composed(config="benchmark").benchmark.full_rows
    section = (repository / "docs/speed.md").read_text().split("### What bert-base would take")[1]
    (petaflop,) = re.findall(r"is (\d+) PFLOP", section)
    assert round(projection.seconds_at(counts, full_rows, 1e15) or 0) == int(petaflop)
    found = re.findall(r"\| ([\d.]+) \| (\d+) % \| ([\d.]+) \|", section)
    assert len(found) == 5
    for peak, share, hours in found:
        seconds = projection.seconds_at(counts, full_rows, float(peak) * 1e12 * int(share) / 100) or 0
        assert f"{seconds / 3600:.1f}" == hours
