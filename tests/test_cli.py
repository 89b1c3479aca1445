"""Bad input on the command line: one clear line, a nonzero exit. And what every config composes to."""

from __future__ import annotations

import errno
import importlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from safetensors import SafetensorError
from submitit.core.utils import UncompletedJobError

from iba import cli, reproduce
from iba.benchmark import run as benchmark
from iba.cli import _one_line, main
from iba.data.examples import Example, Examples, Samples
from iba.pipeline import attribute, finetune
from iba.pipeline.bench import Bench
from iba.pipeline.experiment import RowSet, cells, datasets, method_settings, run_folder, selected
from iba.pipeline.studies import refuse_unknown_points, study_datasets, study_rows
from iba.report import figure2, figure3, figure4
from iba.report.paper import Paper

ROOT = Path(__file__).resolve().parent.parent
PRESETS = sorted(p.stem for p in (ROOT / "configs/preset").glob("*.yaml"))
DATASETS = sorted(p.stem for p in (ROOT / "configs/dataset").glob("*.yaml"))
METHODS = sorted({p.stem for p in (ROOT / "configs/method").glob("*.yaml")} - {"all"})


class Said(Protocol):
    """Runs a command that fails, and gives the one line that it prints."""

    def __call__(self, *arguments: str, job: object = ..., config: str = ...) -> str: ...


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Said:
    """With results and cache below `tmp_path`."""

    def run(*arguments: str, job: object = finetune.run, config: str = "config") -> str:
        paths = [f"paths.results={tmp_path}/results", f"paths.cache={tmp_path}/cache"]
        monkeypatch.setattr(sys, "argv", ["script.py", "preset=smoke", *paths, *arguments])
        monkeypatch.setattr("iba.cli._quiet", lambda: None)
        with pytest.raises(SystemExit) as ended:
            main(job, config)  # type: ignore[arg-type]
        assert ended.value.code == 2
        printed = capsys.readouterr().err.strip()
        assert printed.startswith("error: ")
        assert "\n" not in printed
        return printed

    return run


def test_a_text_too_large_for_the_gpu_is_one_line(said: Said) -> None:
    def job(_: DictConfig) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    assert "one text alone does not fit" in said(job=job)


@pytest.mark.parametrize("group", ["dataset", "model", "method", "protocol", "preset"])
def test_unknown_choice_is_named_with_what_there_is(said: Said, group: str) -> None:
    line = said(f"{group}=nonsense")
    assert re.search(rf"Could not (find|override) .*{group}.*nonsense", line)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["dataset=planted", "dataset.planted.n_test=900"], "n_test: 900|900 rows asked"),
        (["dataset=planted", "dataset.planted.text=words"], "no column 'words'"),
        (["dataset=planted", "dataset.planted.labels=[one]"], r"labels=\['one'\] must have at least 2 items"),
        (["dataset=imdb", "paths.data_dir=/nowhere"], "no file /nowhere/imdb/train.parquet"),
        (["dataset=planted", "model=minilm_l6", "paths.model_dir=/nowhere"], "holds no config.json"),
        (["dataset=planted", "device=cuda"], "no CUDA device"),
        (["dataset=planted", "device=gpu"], "device=gpu cannot be used; choose auto, cpu, cuda"),
        (["dataset=planted", "device=xpu"], "device=xpu cannot be used"),
        (["dataset=planted", "device=0"], "device=0 cannot be used"),
        (["dataset=planted", "device=meta"], "device=meta cannot be used"),
        (["dataset=planted", "device=cpu:3"], "device=cpu:3 cannot be used"),
        (["dataset=planted", "device=cuda:99"], "no CUDA device"),
        (["dataset=null"], "Config group override must be a string or a list"),
        (["dataset=[]"], "dataset must have at least 1 item"),
        (["+foo=bar"], "foo: there is no such setting"),
        (["run=published"], "run=published must be another name"),
        (["dataset=planted", "precision=fp8"], "precision=fp8 must be 'auto', 'fp32' or 'bf16'"),
        (["dataset=planted", "seed=null"], "seed=None must be a valid integer"),
        (["dataset=[planted,imdb]", "paths.data_dir=/nowhere"], "no file /nowhere/imdb/train.parquet"),
        (["dataset=planted", "dataset.planted.n_tset=3"], "n_tset"),
    ],
    ids=lambda value: "_".join(value)[-30:] if isinstance(value, list) else "",
)
def test_mistakes_are_one_line(
    said: Said, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: str
) -> None:
    monkeypatch.setattr("iba.pipeline.finetune.train", lambda _: pytest.fail("trained"))
    assert re.search(expected, said(*arguments))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "/x/y: Permission denied; choose other"),
    ],
)
def test_a_folder_that_takes_no_files_is_one_line(said: Said, error: Exception, expected: str) -> None:
    def fails(_: object) -> None:
        raise error

    assert expected in said(job=fails)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("benchmark.precisions=[fp16]", "benchmark.precisions.0=fp16 must be 'fp32' or 'bf16'"),
        ("benchmark.precisions=[]", "benchmark.precisions=[] must have at least 1 item"),
        ("benchmark.classifier=fine-tuned", "benchmark.classifier=fine-tuned must be 'finetuned' or 'fresh'"),
        ("benchmark.scaling.tokens=[0]", "benchmark.scaling.tokens.0=0 must be"),
        ("device=0", "device=0 cannot be used"),
    ],
)
def test_mistakes_of_the_benchmark_are_one_line(said: Said, change: str, expected: str) -> None:
    assert expected in said(change, job=benchmark.run, config="benchmark")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "not a readable parquet file"),
        (lambda path: pd.read_parquet(path).assign(text="").to_parquet(path), "without text"),
        (lambda path: pd.read_parquet(path).assign(label=7).to_parquet(path), "label 7 is not one of"),
    ],
    ids=["cut off", "empty text", "strange label"],
)
def test_damaged_parquet_is_one_line(said: Said, tmp_path: Path, spoil: object, expected: str) -> None:
    for split in ("train", "test"):
        path = tmp_path / "imdb" / f"{split}.parquet"
        path.parent.mkdir(exist_ok=True)
        pd.DataFrame({"text": [f"{split} {i}" for i in range(80)], "label": [0, 1] * 40}).to_parquet(path)
    spoil(tmp_path / "imdb" / "train.parquet")  # type: ignore[operator]
    line = said("dataset=imdb", f"paths.data_dir={tmp_path}")
    assert expected in line


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("device=gpu", "device=gpu"),
        ("shard=1/2", "reproduce runs stage after stage"),
        ("stats.confidence=95", "stats.confidence=95 must be less than 1"),
        ("only=[tabels]", "only.0=tabels must be 'tables'"),
        ("+method.iba.settings.n_stepz=3", "n_stepz: there is no such setting"),
        ("study.betas.values=[-1]", "study betas: method.iba.settings.beta=-1 must be"),
    ],
)
def test_mistakes_of_later_stages_are_named_before_data_are_read(
    said: Said, monkeypatch: pytest.MonkeyPatch, change: str, expected: str
) -> None:
    monkeypatch.setattr("iba.pipeline.bench.draw_samples", lambda *_: pytest.fail("data were read"))
    chosen = ("study.betas.datasets=[planted]", change)
    assert re.search(expected, said(*chosen, job=reproduce.run))


def test_a_study_without_its_method_is_named_before_data_are_read(
    said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iba.pipeline.bench.draw_samples", lambda *_: pytest.fail("data were read"))
    chosen = ("dataset=planted", "method=random", "study=betas", "study.betas.datasets=[planted]")
    line = said(*chosen, job=reproduce.run)
    assert "study betas needs method iba, which is not selected: add it, or leave the study out" in line


def test_no_network_names_the_way_out(said: Said) -> None:
    line = said("dataset=rte")
    assert "cannot be had from the Hugging Face hub" in line
    assert "paths.data_dir=FOLDER" in line


def test_layer_out_of_range_and_bad_shard(
    said: Said, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    common = ["dataset=planted", "protocol=described", "method=iba"]
    monkeypatch.setattr(sys, "argv", ["x", "preset=smoke", f"paths.results={tmp_path}/results",
                                      f"paths.cache={tmp_path}/cache", *common])  # fmt: skip
    main(finetune.run)
    capsys.readouterr()
    for change, expected in (
        ("method.iba.settings.layer=9", "layer 9 is out of range: this encoder has layers 1 to 4"),
        ("shard=2/2", "shard=2/2 is not of the form i/n"),
        ("target=silver", "target=silver must be 'gold'"),
    ):
        assert expected in said(*common, change, job=attribute.run)


def test_a_mistake_in_a_submitted_job_is_one_line(said: Said) -> None:
    """submitit raises a job's whole log in the process that sent the job off."""
    log = "Job 7 has not produced any output\nerror: old\nwarning: slow\nerror: no file x; mend it.\nbye\n"

    def failing(_: object) -> None:
        raise UncompletedJobError(log)

    assert said(job=failing) == "error: no file x; mend it."
    for other in (UncompletedJobError("Traceback …\nValueError: a bug"), RuntimeError("error: not a job's")):
        with pytest.raises(type(other)), _one_line():
            raise other


def test_a_console_without_greek_letters_gets_them_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    console = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", console)
    monkeypatch.setattr(sys, "argv", ["x"])
    monkeypatch.setattr("iba.cli._quiet", lambda: None)
    main(lambda _: print("β − 1"), "explain")
    console.seek(0)
    assert console.read() == "\\u03b2 \\u2212 1\n"


def test_loading_the_command_line_changes_no_environment() -> None:
    """It is set in `main`, before the stage is loaded and torch with it."""
    before = dict(os.environ)
    importlib.reload(cli)
    assert dict(os.environ) == before
    code = "import sys, iba.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_submitted_job_is_as_quiet_as_its_sender(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A launcher calls the function that Hydra decorates, not `main`."""
    called: list[str] = []
    for name in ("_quiet", "_keep_freed_memory", "sweep"):
        monkeypatch.setattr(f"iba.cli.{name}", lambda *_, name=name: called.append(name))
    paths = {"results": str(tmp_path), "cache": str(tmp_path)}

    def sent(**_: object) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
        return lambda task: lambda: called.append("sent") or task(OmegaConf.create({"paths": paths}))

    monkeypatch.setattr("iba.cli.hydra.main", sent)
    main(lambda _: called.append("job"))
    assert called == ["sent", "_quiet", "_keep_freed_memory", "sweep", "job"]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_composes_to_cells_that_resolve(preset: str) -> None:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("config", overrides=[f"preset={preset}", f"paths.root={ROOT}"])
    for name in datasets(cfg):
        found = list(cells(cfg, name))
        assert len(found) == 3 * len(selected(cfg.method))
        assert all(cell.settings["_target_"] for cell in found)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_selects_nothing_that_was_not_asked_for(preset: str) -> None:
    asked = [f"preset={preset}", f"paths.root={ROOT}", "dataset=planted", "protocol=described", "method=ig"]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("config", overrides=asked)
    assert list(datasets(cfg)) == ["planted"]
    assert [(c.view.protocol, c.view.method) for c in cells(cfg, "planted")] == [("described", "ig")]


def test_the_paper_varies_layer_and_beta_on_a_thousand_reviews() -> None:
    asked = ["preset=paper", "study=[layers,betas]", f"paths.root={ROOT}"]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("config", overrides=asked)
    for name in ("layers", "betas"):
        assert cfg.study[name].name == name
        assert cfg.study[name].n_test == {"imdb": 1000}


def test_quick_makes_figures_2_to_5() -> None:
    """Every study of a figure has its data sets, and texts that fit them, few enough to be shown."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("config", overrides=["preset=quick", f"paths.root={ROOT}"])
    drawn = (figure2.STUDY, figure4.STUDY, figure3.CLASSIFIERS, figure3.LAYERS, figure3.BETAS)
    assert {*selected(cfg.study)} == {*drawn}
    for study in selected(cfg.study).values():
        refuse_unknown_points(cfg, study)
        assert study_datasets(cfg, study) == list(study.datasets)
        for name in study.datasets:
            pair = "a pair" if cfg.dataset[name].text_pair else None
            sample = [Example(f"test:{i}", "a", pair, 0) for i in range(cfg.dataset[name].n_test)]
            drawn, none = Examples.of(sample), Examples.of([])
            samples = Samples(none, none, drawn, drawn, tuple(drawn.ids))
            bench = Bench(cfg, cfg.dataset[name], samples, RowSet(cfg.seed, 64))
            rows = bench.on(study_rows(cfg, study, name)).samples.test
            assert len(rows) == (1 if study.name.startswith("token") else 8)


@pytest.mark.parametrize("preset", PRESETS)
def test_no_preset_writes_into_the_published_numbers(preset: str) -> None:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("config", overrides=[f"preset={preset}", f"paths.root={ROOT}"])
    published = ROOT / "results" / "published"
    assert Paper.read(published).drops["imdb", "iba"] == 0.229
    assert run_folder(cfg) != published


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_data_set_gives_every_method_its_settings(dataset: str) -> None:
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("config", overrides=[f"dataset={dataset}", f"method=[{','.join(METHODS)}]",
                                           f"paths.root={ROOT}"])  # fmt: skip
    assert set(cfg.dataset[dataset].authors_labels) == set(cfg.dataset[dataset].labels)
    for method in METHODS:
        for protocol in cfg.protocol:
            assert method_settings(cfg, dataset, protocol, cfg.method[method])["_target_"]


@pytest.mark.parametrize(
    ("dataset", "first", "second"),
    [
        ("imdb", "pos", "neg"),
        ("agnews", "World", "Sports"),
        ("rte", "entailment", "not_entailment"),
        ("mnli_matched", "contradiction", "entailment"),
        ("mnli_mismatched", "contradiction", "entailment"),
    ],
)
def test_the_protocols_are_what_is_said_of_them(dataset: str, first: str, second: str) -> None:
    """`first` and `second`: classes 0 and 1 of the authors' code, which IG and LIME explain there."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("config", ["preset=paper", f"dataset={dataset}", f"paths.root={ROOT}"])
    of = {(c.view.protocol, c.view.method): c.settings for c in cells(cfg, dataset)}
    layer, beta = (0.8333, 1e-4) if dataset == "rte" else (0.75, 1e-5)
    for protocol, noise, readout, chosen in (
        ("described", "features", "final", beta),
        ("released", "layer_input", "last_forward", beta),
        ("corrected", "features", "final", beta),
    ):
        iba = of[protocol, "iba"]
        assert (iba["layer"], iba["beta"]) == (layer, chosen)
        assert (iba["noise"], iba["readout"]) == (noise, readout)
        assert (iba["n_steps"], iba["n_copies"]) == (10, 10)
        assert (iba["learning_rate"], iba["alpha_init"]) == (1.0, 5.0)
    ig, lime = of["released", "ig"], of["released", "lime"]
    assert (ig["explained_class"], ig["normalise"], ig["n_steps"]) == (first, True, 10)
    assert lime["_target_"].endswith("LimeReleased")
    assert (lime["explained_class"], lime["pad_to"]) == (second, 512)
    assert (lime["n_samples"], lime["n_samples_pair"]) == (100, 75)
    for protocol in ("described", "corrected"):
        assert (of[protocol, "ig"]["explained_class"], of[protocol, "ig"]["normalise"]) == (None, False)
        assert of[protocol, "lime"]["_target_"].endswith("LimeTokens")
