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

import pandas as pd
import pytest
import torch
from composing import ROOT, composed
from omegaconf import DictConfig, OmegaConf
from safetensors import SafetensorError
from submitit.core.utils import UncompletedJobError

from iba import cli, reproduce
from iba.benchmark import run as benchmark
from iba.cli import _one_line, main
from iba.data.examples import Example, Examples, Samples
from iba.errors import UserError
from iba.pipeline import finetune
from iba.pipeline.checks import check_settings
from iba.pipeline.experiment import RowSet, cells, datasets, run_folder, selected
from iba.pipeline.studies import refuse_unknown_points, study_datasets, study_rows
from iba.pipeline.task import Task
from iba.report import single_texts, study_figures
from iba.report.paper import Paper

PUBLISHED = ROOT / "results/published"
PRESETS = sorted(p.stem for p in (ROOT / "configs/preset").glob("*.yaml"))
DATASETS = sorted(p.stem for p in (ROOT / "configs/dataset").glob("*.yaml"))
Stage = Callable[[DictConfig], object]
METHODS = sorted({p.stem for p in (ROOT / "configs/method").glob("*.yaml")} - {"all"})


@pytest.fixture
def said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., str]:
    """Runs a command that fails, and gives the one line that it prints."""

    def run(*arguments: str) -> str:
        paths = [f"paths.results={tmp_path}/results", f"paths.cache={tmp_path}/cache"]
        monkeypatch.setattr(sys, "argv", ["script.py", "preset=smoke", *paths, *arguments])
        monkeypatch.setattr("iba.cli._quiet", lambda: None)
        return printed(capsys, lambda: main(finetune.run))

    return run


def printed(capsys: pytest.CaptureFixture[str], fails: Callable[[], object]) -> str:
    """What is printed by what ends the process."""
    with pytest.raises(SystemExit) as ended:
        fails()
    assert ended.value.code == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("error: ")
    assert "\n" not in line
    return line


def ended_by(error: Exception) -> None:
    """As a script ends where a stage raises this."""
    with _one_line():
        raise error


def refused(folder: Path, *arguments: str, job: Stage = finetune.run, config: str = "config") -> str:
    """The line with which a stage refuses these settings."""
    paths = (f"paths.results={folder}/results", f"paths.cache={folder}/cache")
    cfg = composed("preset=smoke", *paths, *arguments, config=config)
    with pytest.raises(UserError) as caught:
        job(cfg)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("group", ["dataset", "model", "method", "protocol", "preset"])
def test_unknown_choice_is_named_with_what_there_is(said: Callable[..., str], group: str) -> None:
    line = said(f"{group}=nonsense")
    assert re.search(rf"Could not (find|override) .*{group}.*nonsense", line)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["dataset=null"], "Config group override must be a string or a list"),
        (["dataset=planted", "dataset.planted.n_tset=3"], "n_tset"),
        (["dataset=planted", "+foo=bar"], "foo: there is no such setting"),
    ],
)
def test_mistakes_are_one_line(said: Callable[..., str], arguments: list[str], expected: str) -> None:
    assert expected in said(*arguments)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["dataset=planted", "dataset.planted.n_test=900"], "n_test: 900|900 rows asked"),
        (["dataset=planted", "dataset.planted.text=words"], "no column 'words'"),
        (["dataset=planted", "model=minilm_l6", "paths.model_dir=/nowhere"], "holds no config.json"),
        (["dataset=planted", "device=cuda"], "no CUDA device"),
        (["dataset=planted", "device=gpu"], "device=gpu cannot be used; choose auto, cpu, cuda"),
        (["dataset=planted", "device=xpu"], "device=xpu cannot be used"),
        (["dataset=planted", "device=0"], "device=0 cannot be used"),
        (["dataset=planted", "device=meta"], "device=meta cannot be used"),
        (["dataset=planted", "device=cpu:3"], "device=cpu:3 cannot be used"),
        (["dataset=planted", "device=cuda:99"], "no CUDA device"),
        (["dataset=imdb", "paths.data_dir=/nowhere"], "no file /nowhere/imdb/train.parquet"),
        (["dataset=[planted,imdb]", "paths.data_dir=/nowhere"], "no file /nowhere/imdb/train.parquet"),
        (["dataset=rte"], r"cannot be had from the Hugging Face hub .*paths\.data_dir=FOLDER"),
    ],
    ids=lambda value: "_".join(value)[-30:] if isinstance(value, list) else "",
)
def test_mistakes_are_named_before_any_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], expected: str
) -> None:
    monkeypatch.setattr("iba.pipeline.finetune.train", lambda _: pytest.fail("trained"))
    assert re.search(expected, refused(tmp_path, *arguments))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk is full"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "/x/y: Permission denied; choose other"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), "one text alone does not fit"),
    ],
)
def test_what_a_machine_lacks_is_one_line(
    capsys: pytest.CaptureFixture[str], error: Exception, expected: str
) -> None:
    assert expected in printed(capsys, lambda: ended_by(error))


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
def test_mistakes_of_the_benchmark_are_one_line(tmp_path: Path, change: str, expected: str) -> None:
    assert expected in refused(tmp_path, change, job=benchmark.run, config="benchmark")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "not a readable parquet file"),
        (lambda path: pd.read_parquet(path).assign(text="").to_parquet(path), "without text"),
        (lambda path: pd.read_parquet(path).assign(label=7).to_parquet(path), "label 7 is not one of"),
    ],
    ids=["cut off", "empty text", "strange label"],
)
def test_damaged_parquet_is_one_line(tmp_path: Path, spoil: Callable[[Path], object], expected: str) -> None:
    for split in ("train", "test"):
        path = tmp_path / "imdb" / f"{split}.parquet"
        path.parent.mkdir(exist_ok=True)
        pd.DataFrame({"text": [f"{split} {i}" for i in range(80)], "label": [0, 1] * 40}).to_parquet(path)
    spoil(tmp_path / "imdb" / "train.parquet")
    assert expected in refused(tmp_path, "dataset=imdb", f"paths.data_dir={tmp_path}")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (["device=gpu"], "device=gpu"),
        (["shard=1/2"], "reproduce runs stage after stage"),
        (["stats.confidence=95"], "stats.confidence=95 must be less than 1"),
        (["only=[tabels]"], "only.0=tabels must be 'tables'"),
        (["+method.iba.settings.n_stepz=3"], "n_stepz: there is no such setting"),
        (["study.betas.values=[-1]"], "study betas: method.iba.settings.beta=-1 must be"),
        (
            ["method=random", "study=betas"],
            "study betas needs method iba, which is not selected: add it, or leave the study out",
        ),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_mistakes_of_later_stages_are_named_before_data_are_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: list[str], expected: str
) -> None:
    monkeypatch.setattr("iba.pipeline.task.draw_samples", lambda *_: pytest.fail("data were read"))
    chosen = ("dataset=planted", "study.betas.datasets=[planted]", *change)
    assert expected in refused(tmp_path, *chosen, job=reproduce.run)


def test_a_mistake_in_a_submitted_job_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """submitit raises a job's whole log in the process that sent the job off."""
    log = "Job 7 has not produced any output\nerror: old\nwarning: slow\nerror: no file x; mend it.\nbye\n"

    assert printed(capsys, lambda: ended_by(UncompletedJobError(log))) == "error: no file x; mend it."
    for other in (UncompletedJobError("Traceback …\nValueError: a bug"), RuntimeError("error: not a job's")):
        with pytest.raises(type(other)):
            ended_by(other)


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


def asked(cfg: DictConfig) -> set[tuple[str, str]]:
    """Every selected protocol and method, but for methods that belong to some protocols alone."""
    methods = selected(cfg.method).items()
    return {(p, name) for name, method in methods for p in method.get("protocols") or selected(cfg.protocol)}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_composes_to_cells_that_resolve(preset: str) -> None:
    cfg = composed(f"preset={preset}", "study=all")
    check_settings(cfg)
    assert run_folder(cfg) != PUBLISHED
    for name in datasets(cfg):
        found = list(cells(cfg, name))
        assert {(cell.view.protocol, cell.view.method) for cell in found} == asked(cfg)
        assert all(cell.settings["_target_"] for cell in found)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_selects_nothing_that_was_not_asked_for(preset: str) -> None:
    cfg = composed(f"preset={preset}", "dataset=planted", "protocol=described", "method=ig")
    assert list(datasets(cfg)) == ["planted"]
    assert [(c.view.protocol, c.view.method) for c in cells(cfg, "planted")] == [("described", "ig")]


def test_the_paper_varies_layer_and_beta_on_a_thousand_reviews() -> None:
    cfg = composed("preset=paper", "study=[layers,betas]")
    for name in ("layers", "betas"):
        assert cfg.study[name].name == name
        assert cfg.study[name].n_test == {"imdb": 1000}


def test_quick_makes_figures_2_to_5() -> None:
    """Every study of a figure has its data sets, and texts that fit them, few enough to be shown."""
    cfg = composed("preset=quick")
    drawn = (study_figures.BETAS, study_figures.LAYERS)
    drawn += (single_texts.CLASSIFIERS, single_texts.LAYERS, single_texts.BETAS)
    assert {*selected(cfg.study)} == {*drawn}
    for study in selected(cfg.study).values():
        refuse_unknown_points(cfg, study)
        assert study_datasets(cfg, study) == list(study.datasets)
        for name in study.datasets:
            pair = "a pair" if cfg.dataset[name].text_pair else None
            sample = [Example(f"test:{i}", "a", pair, 0) for i in range(cfg.dataset[name].n_test)]
            drawn, none = Examples.of(sample), Examples.of([])
            samples = Samples(none, none, drawn, drawn, tuple(drawn.ids))
            task = Task(cfg, cfg.dataset[name], samples, RowSet(cfg.seed, 64))
            rows = task.on(study_rows(cfg, study, name)).samples.test
            assert len(rows) == (1 if study.name.startswith("token") else 8)


def test_the_published_numbers_are_where_no_preset_writes() -> None:
    """That none does is tested beside every preset's cells."""
    assert Paper.read(PUBLISHED).drops["imdb", "iba"] == 0.229


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_data_set_gives_every_method_its_settings(dataset: str) -> None:
    cfg = composed(f"dataset=[{','.join(DATASETS)}]", f"method=[{','.join(METHODS)}]")
    assert set(cfg.dataset[dataset].authors_labels) == set(cfg.dataset[dataset].labels)
    found = [*cells(cfg, dataset)]
    assert all(cell.settings["_target_"] for cell in found)
    assert {(cell.view.protocol, cell.view.method) for cell in found} == asked(cfg)


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
    cfg = composed("preset=paper")
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
