"""What README and docs show as code is run as it is printed; their tables are those of stored runs."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from architectures import tiny_model
from composing import composed
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

import baselines
from iba.attribution import InformationBottleneck
from iba.data.examples import Example
from iba.data.tokens import tokenise
from iba.evaluation.degradation import n_removed
from iba.evaluation.ranking import FIRST_STEP
from iba.evaluation.stats import mean_interval
from iba.models.classifier import Classifier
from iba.models.pretrained import load_classifier
from iba.models.tiny import tiny_tokenizer
from iba.pipeline import attribute, degrade, finetune
from iba.pipeline.experiment import selected
from iba.pipeline.views import View, stored_cells
from iba.report import stage as report
from iba.report import studies
from iba.report.frame import summarise
from iba.report.stored import Stored, load
from iba.report.tables import table1
from iba.report.text import estimate, interval, number

ROOT = Path(__file__).resolve().parent.parent
#: A code block whose first line is a comment with the file's name.
BLOCK = re.compile(r"^```(?:python|yaml)\n# (?P<path>\S+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
#: Data sets by their titles.
NAMES = {"IMDB": "imdb", "MNLI matched": "mnli_matched", "MNLI mismatched": "mnli_mismatched"}
NAMES |= {"AG News": "agnews", "RTE": "rte"}


#: Everything that a reader may follow a link from.
PAGES = [
    "README.md",
    "REPRODUCTION.md",
    "results/README.md",
    *(f"docs/{path.name}" for path in (ROOT / "docs").iterdir()),
]


def page(name: str) -> str:
    """One of the docs."""
    return (ROOT / "docs" / f"{name}.md").read_text()


def section() -> str:
    """The README's section on adding things."""
    return (ROOT / "README.md").read_text().split("\n## Adding things")[1].split("\n## ")[0]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A folder with the files of the example."""
    files = {found["path"]: found["text"] for found in BLOCK.finditer(section())}
    assert set(files) == {"baselines/first.py", "configs/method/first.yaml"}
    assert sum(text.count("\n") + 1 for text in files.values()) <= 20
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def configured(folder: Path, *overrides: str) -> DictConfig:
    """The smoke run on the planted set, which also finds what `folder/configs` adds."""
    paths = (f"paths.root={ROOT}", f"paths.results={folder}/results", f"paths.cache={folder}/cache")
    added = f"hydra.searchpath=[file://{folder}/configs]"
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("config", overrides=["preset=smoke", "dataset=planted", added, *paths, *overrides])


def test_the_method_of_the_readme_runs_as_printed(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (asked,) = re.findall(r"`(method=\S+)` runs it", section())
    monkeypatch.setattr(baselines, "__path__", [*baselines.__path__, str(written / "baselines")])
    cfg = configured(written, asked, "protocol=corrected", "study=[]")
    assert list(selected(cfg.method)) == ["iba", "first"]
    for stage in (finetune, attribute, degrade, report):
        stage.run(cfg)
    run = written / "results" / "smoke"
    (cell,) = (c for c in stored_cells(cfg) if c.view.method == "first")
    rows, scored = cell.degradation(), cell.scores()
    assert rows["instance_id"].nunique() == cfg.dataset.planted.n_test
    assert rows["prob_target"].between(0, 1).all()
    assert scored is not None
    for scores in scored["scores"]:
        assert list(scores) == [-position for position in range(1, len(scores) + 1)]
    assert "| First | other |" in (run / "methods.md").read_text()


def test_the_bottleneck_alone_gives_the_methods_bits(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(import torch\n.*?)```", page("own_text"), re.DOTALL)
    tiny_model("electra").save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    exec(code.replace("FOLDER_OR_HUB_ID", str(tmp_path)), found := {})
    classifier = Classifier(*load_classifier(tmp_path))
    rows = tokenise([Example(t, t, None, 0) for t in found["texts"]], classifier.tokenizer, 64)
    method = InformationBottleneck(found["layer"], 0.1)
    method.restore({"noise_mean": found["seen"].mean(0), "noise_std": found["seen"].std(0)})
    batch = classifier.batch(rows)
    target = classifier.logits(batch.inputs).argmax(1)
    expected = method.attribute(classifier, batch, target).per_token["bits"]
    torch.testing.assert_close(found["bits"], expected)
    assert expected.std() > 0


@pytest.mark.parametrize("path", PAGES)
def test_every_relative_link_leads_somewhere(path: str) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", (ROOT / path).read_text()):
        assert (ROOT / path).parent.joinpath(target).exists(), target


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 900


def test_conda_installs_what_the_makefile_does() -> None:
    text = (ROOT / "environment.yml").read_text()
    pins = re.findall(r"^ +- (\S+==\S+)$", text, re.MULTILINE)
    assert pins == (ROOT / "requirements.lock").read_text().split()
    assert "pip install --no-deps -r requirements-data.lock -e ." in text


def rows(text: str, heads: str) -> list[list[str]]:
    """The cells of the table whose first line begins with `heads`, without the two head lines."""
    lines = text[text.index(f"\n{heads}") + 1 :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_results_are_the_stored_ones() -> None:
    heads = "| data set | method | paper |"
    stored = (ROOT / "results" / "campaign" / "table1.md").read_text()
    assert rows(page("results"), heads) == rows(stored, heads)
    corrected = {(r[0], r[1]): r[5] for r in rows(stored, heads)}
    for dataset, *values in rows((ROOT / "README.md").read_text(), "| data set | IBA |"):
        assert values == [corrected[dataset, method] for method in ("IBA", "IG", "LIME", "Random")]


@pytest.fixture(scope="module")
def campaign() -> Stored:
    return load(composed("preset=campaign"))


def test_table1_follows_from_the_stored_rows(campaign: Stored) -> None:
    made = pd.read_csv(StringIO(table1.TABLE.rows(campaign).to_csv(index=False, float_format="%.6g")))
    committed = pd.read_csv(campaign.folder / "table1.csv")
    pd.testing.assert_frame_equal(made, committed, check_dtype=False, rtol=1e-5)


def test_what_tuning_wins_follows_from_the_stored_rows(campaign: Stored) -> None:
    for dataset, n, *shown in rows(page("results"), "| data set | n | IBA | IG | LIME |"):
        tuned, untuned = (campaign.matrix(p, NAMES[dataset]) for p in ("corrected", "described"))
        won = (tuned - untuned).dropna(subset="iba")[["iba", "ig", "lime"]]
        means = [mean_interval(won[method].to_numpy(float), campaign.how) for method in won]
        assert int(n) == len(won)
        assert shown == [f"{number(m.estimate)} {interval(m.low, m.high)}" for m in means]


@pytest.mark.parametrize(("study", "heads"), [("layers", "| after layer |"), ("betas", "| β |")])
def test_the_points_of_a_study_follow_from_the_stored_rows(campaign: Stored, study: str, heads: str) -> None:
    found, shown = studies.load(campaign, study), rows(page("results"), heads)
    assert [float(point) for point, *_ in shown] == found[0].values
    for point, *numbers in shown:
        means = [
            summarise(one.points.of(value=float(point)), ["method"], ["drop_11", "area_over"], campaign.how)
            for one in found
        ]
        assert numbers == [estimate(row) for mean in means for row in mean.itertuples()]


def test_where_the_first_tokens_lie_follows_from_the_stored_rows(campaign: Stored) -> None:
    for dataset, *shown in rows(page("results"), "| share in the second text |"):
        name = NAMES[dataset]
        views = [View(campaign.seed, None, None, "corrected", name, m) for m in ("iba", "ig", "lime")]
        tables = [scores for view in views if (scores := campaign.scores(view)) is not None]
        assert len(tables) == len(views)
        second = [np.cumsum(special) > 1 for special in tables[0]["special"]]
        shares = [np.mean([of[order].mean() for of, order in zip(second, tables[0]["order"], strict=True)])]
        for scores in tables:
            orders = zip(second, scores["order"], strict=True)
            first = [of[order[: n_removed(FIRST_STEP, len(of), len(order))]] for of, order in orders]
            shares.append(np.mean([of.mean() for of in first]))
        lengths = tables[0].set_index("instance_id")["scores"].map(len)
        lead = campaign.matrix("corrected", name).eval("lime - iba")
        assert shown == [number(value, 2) for value in [*shares, lead.corr(lengths, "spearman")]]


def test_what_changed_is_in_the_two_runs() -> None:
    keys = ["protocol", "measure", "dataset", "first", "second"]
    runs = [ROOT / "results" / run / "tests.csv" for run in ("bge_small", "campaign")]
    tables = [pd.read_csv(path).set_index(keys).sort_index().loc["corrected", "drop_11"] for path in runs]
    for dataset, *shown in rows(page("results"), "| data set | IBA − IG, earlier |"):
        leads = [t.loc[NAMES[dataset], "iba", rival] for rival in ("ig", "lime") for t in tables]
        assert shown == [f"{number(lead.difference)} {interval(lead.ci_low, lead.ci_high)}" for lead in leads]


def test_the_verdicts_are_the_stored_ones() -> None:
    stored = (ROOT / "results" / "campaign" / "REPRODUCTION.md").read_text()
    assert (ROOT / "REPRODUCTION.md").read_text() == stored
    assert rows((ROOT / "README.md").read_text(), "|part|IMDB|") == rows(stored, "| part | IMDB |")


def test_the_speed_is_the_stored_one() -> None:
    stored = pd.read_csv(ROOT / "results" / "benchmark" / "amd_epyc_2_threads.csv")
    table = stored.set_index(["operation", "dataset", "precision"])
    shown = rows(page("speed"), "| operation | data set | reference, ms |")
    assert len(shown) == 8
    for operation, dataset, *numbers in shown:
        fp32, bf16 = (table.loc[operation.lower(), NAMES[dataset], kind] for kind in ("fp32", "bf16"))
        times = [fp32["reference_ms"], fp32["ours_ms"], bf16["ours_ms"]]
        ratios = [fp32["ratio"], bf16["ratio"]]
        assert numbers == [f"{time:,.0f}" for time in times] + [f"{ratio:.1f}" for ratio in ratios]


def test_the_agreement_of_bf16_is_the_stored_one() -> None:
    stored = pd.concat(map(pd.read_csv, (ROOT / "results" / "benchmark").glob("*_precision.csv")))
    known = set()
    for r in stored.itertuples():
        difference = f"{r.mean_drop_difference:.4f} [{r.difference_low:.4f}, {r.difference_high:.4f}]"
        signed = difference.replace("-0.0000", "0.0000").replace("-", "−")
        known.add((r.method, r.dataset, str(r.n), f"{r.rank_correlation_median:.4f}", signed))
    shown = rows(page("speed"), "| method | data set | n | median rank correlation")
    assert len(shown) == 8
    for method, dataset, *numbers in shown:
        assert (method.split(",")[0].lower(), NAMES[dataset], *numbers) in known


def test_the_processors_own_work_is_the_stored_one() -> None:
    path = ROOT / "results" / "benchmark" / "amd_epyc_host.csv"
    stored = pd.read_csv(path).set_index(["operation", "tokens"])
    for operation, *shown in rows(page("speed"), "| operation | 40 tokens, ms |"):
        short, long = (stored.loc[(operation.lower(), tokens)] for tokens in (40, 512))
        found = [short["cpu_ms"], long["cpu_ms"], long["straightforward_cpu_ms"]]
        assert shown == ["–" if pd.isna(ms) else f"{ms:.1f}" for ms in found]
