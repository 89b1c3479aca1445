"""Random orders of removal: drawn per text, and compared where Table 1's drop is measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from iba.errors import UserError
from iba.evaluation.degradation import OPERATORS, n_removed
from iba.evaluation.ranking import FIRST_STEP
from iba.evaluation.variants import class_probabilities
from iba.pipeline import attribute, degrade, finetune, orders
from iba.pipeline.orders import _random_orders
from iba.pipeline.task import Task
from iba.pipeline.views import stored_cells

ROOT = Path(__file__).resolve().parent.parent


def configured(folder: Path, *overrides: str) -> DictConfig:
    fixed = ["preset=smoke", "dataset=planted", "precision=fp32", "finetune.precision=fp32"]
    fixed += ["protocol=described", "method=[ig,random]", "orders.n_orders=3", "+orders.n_test.planted=4"]
    paths = [f"paths.root={ROOT}", f"paths.results={folder}/results", f"paths.cache={folder}/cache"]
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("config", [*fixed, *paths, *overrides])


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> DictConfig:
    cfg = configured(tmp_path_factory.mktemp("orders"))
    for stage in (finetune, attribute, degrade, orders):
        stage.run(cfg)
    return cfg


def random_orders(cfg: DictConfig) -> pd.DataFrame:
    (path,) = Path(cfg.paths.results, cfg.run, "planted").glob("random_orders-*.parquet")
    return pd.read_parquet(path)


def test_a_methods_first_step_is_table_1s(ran: DictConfig) -> None:
    cells = {cell.view.method: cell for cell in stored_cells(ran)}
    for method in ("ig", "random"):
        (path,) = cells[method].folder.glob("first_step-*.parquet")
        found, curve = pd.read_parquet(path), cells[method].degradation()
        curve = curve[(curve.grid == "curve") & (curve.order == "most") & (curve.step == 1)]
        found = found[found.operator == "delete"].set_index("instance_id").prob_target
        assert len(found) == 4
        expected = curve.set_index("instance_id").prob_target[found.index]
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_win_rate_is_the_share_of_random_orders_that_leave_more(ran: DictConfig) -> None:
    (cell,) = [cell for cell in stored_cells(ran) if cell.view.method == "ig"]
    rates, random = orders.win_rates(cell), random_orders(ran)
    assert rates is not None
    assert len(rates) == 4 * 3
    for row in rates.itertuples():
        left = random[(random.instance_id == row.instance_id) & (random.operator == row.operator)].prob_target
        expected = (left > row.prob_target).mean() + (left == row.prob_target).mean() / 2
        assert row.win_rate == pytest.approx(expected)


def test_random_orders_are_the_texts_own_and_answered_as_by_hand(ran: DictConfig) -> None:
    task = Task.open(ran, "planted")
    task = task.on(replace(task.rows, n=4))
    found = random_orders(ran).set_index(["instance_id", "operator", "order"])
    assert len(found) == 4 * 3 * 3
    for i, one in enumerate(task.test):
        drawn = _random_orders(task, i)
        assert len({tuple(each.removal) for each in drawn}) == 3
        assert not any(one.special[place] for each in drawn for place in each.removal)
        for number, each in enumerate(drawn):
            k = n_removed(FIRST_STEP, len(one), len(each.removal))
            gone = np.isin(np.arange(len(one)), each.removal[:k])
            for operator, remove in OPERATORS.items():
                row = found.loc[(one.id, operator, number)]
                variant = remove(each, gone, task.classifier.tokenizer.mask_token_id)
                (answer,) = class_probabilities(task.classifier, [variant])
                assert row.n_removed == k
                assert row.prob_target == pytest.approx(answer[one.example.label], abs=1e-6)


def test_fewer_texts_have_the_same_random_orders(ran: DictConfig, tmp_path: Path) -> None:
    cache = f"paths.cache={Path(ran.paths.cache)}"
    cfg = configured(tmp_path, cache, "orders.n_test.planted=2", "method=random")
    finetune.run(cfg)
    with pytest.raises(UserError, match=r"run scripts/attribute\.py first"):
        orders.run(cfg)
    fewer, more = random_orders(cfg), random_orders(ran)
    kept = more[more.instance_id.isin(fewer.instance_id)].reset_index(drop=True)
    assert fewer.instance_id.nunique() == 2
    pd.testing.assert_frame_equal(fewer, kept, atol=1e-6)
