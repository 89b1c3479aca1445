"""Attribution and degradation at every point of the selected studies."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig

from iba.pipeline.attribute import (
    attribution_work,
    attributions,
    part_groups,
    settled,
)
from iba.pipeline.bench import Bench
from iba.pipeline.checks import check_settings
from iba.pipeline.degrade import degrade_cell
from iba.pipeline.experiment import selected, twins
from iba.pipeline.finetune import refuse_other_weights, refuse_weak_classifier
from iba.pipeline.parts import compute_in_parts
from iba.pipeline.studies import refuse_unknown_points, study_bench, study_cells, study_datasets


def run(cfg: DictConfig) -> None:
    """Compute what is not there yet.

    Every data set and every study's rows are read and checked before the first is worked on, so that a
    mistake in the last does not wait until the others are done.
    """
    check_settings(cfg)
    wanted = list(_wanted(cfg))
    for study, _ in wanted:
        refuse_unknown_points(cfg, study)
    opened = {name: Bench.open(cfg, name) for name in dict.fromkeys(name for _, name in wanted)}
    for bench in opened.values():
        refuse_weak_classifier(bench)
        refuse_other_weights(bench)
    waiting = [(study, study_bench(opened[dataset], study)) for study, dataset in wanted]
    while waiting:  # a bench that is done is let go, its classifier with it
        study, bench = waiting.pop(0)
        run_study(bench, cfg, study)


def _wanted(cfg: DictConfig) -> Iterator[tuple[DictConfig, str]]:
    for study in selected(cfg.get("study") or DictConfig({})).values():
        chosen = study_datasets(cfg, study)
        if not chosen:
            print(f"study {study.name}: none of its data sets ({', '.join(study.datasets)}) is selected")
        for dataset in chosen:
            yield study, dataset


def run_study(bench: Bench, cfg: DictConfig, study: DictConfig) -> None:
    """All points of one data set: attributed group by group, then degraded.

    All points see one group of instances before the next group comes, so the hidden states below the
    bottlenecks are computed once for all layers. A point that is alike under two protocols is computed once.
    """
    cells = list(study_cells(cfg, study, str(bench.dataset.name), bench.classifier.n_layers))
    todo = [cell for cell in cells if not settled(bench, cell, attributions)]
    todo = [cell for cell in todo if next(twins(todo, cell)) == cell]
    # The last layer first: what its fit learns of the layers below is not computed again.
    works = [attribution_work(bench, cell) for cell in reversed(todo)]
    label = f"{study.name} {bench.dataset.name}"
    compute_in_parts(works, part_groups(bench), bench.shard, label, bench.classifier.remembering)
    if all(settled(bench, cell, attributions) for cell in cells):
        for cell in cells:
            degrade_cell(bench, cell)
    else:
        print(f"{label}: other shards still attribute; run the same command again to degrade.")
