"""Attribution and degradation at every point of the selected studies."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig

from iba.pipeline.attribute import SCORES, attribution_work, folder_of, part_groups
from iba.pipeline.checks import check_settings
from iba.pipeline.degrade import degrade_cell
from iba.pipeline.finetune import classifier_record, refuse_weak_classifier
from iba.pipeline.parts import compute_in_parts
from iba.pipeline.studies import refuse_unknown_points, studies, study_cells, study_datasets, study_rows
from iba.pipeline.task import Task
from iba.pipeline.tuning import tuned


def run(cfg: DictConfig) -> None:
    """Compute what is not there yet.

    Every data set and every study's rows are read and checked before the first is worked on, so that a
    mistake in the last does not wait until the others are done.
    """
    check_settings(cfg)
    wanted = list(_wanted(cfg))
    for study, _ in wanted:
        refuse_unknown_points(cfg, study)
    opened = {name: Task.open(cfg, name) for name in dict.fromkeys(name for _, name in wanted)}
    for task in opened.values():
        refuse_weak_classifier(task)
    for study, name in wanted:
        opened[name].on(study_rows(cfg, study, name))
    while wanted:
        study, name = wanted.pop(0)
        run_study(opened[name], cfg, study)
        if all(name != other for _, other in wanted):  # let go, its classifier with it
            del opened[name]


def _wanted(cfg: DictConfig) -> Iterator[tuple[DictConfig, str]]:
    for study in studies(cfg):
        chosen = study_datasets(cfg, study)
        if not chosen:
            print(f"study {study.name}: none of its data sets ({', '.join(study.datasets)}) is selected")
        for dataset in chosen:
            yield study, dataset


def run_study(task: Task, cfg: DictConfig, study: DictConfig) -> None:
    """All points of one data set: attributed group by group, then degraded.

    All points see one group of instances before the next group comes, so the hidden states below the
    bottlenecks are computed once for all layers.
    """
    name, n_layers = str(task.dataset.name), classifier_record(task)["settings"]["n_layers"]
    # The last layer first: what its fit learns of the layers below is not computed again.
    asked = [tuned(task, cell) for cell in reversed([*study_cells(cfg, study, name, n_layers)])]
    cells = {folder_of(task, cell): cell for cell in asked}
    works = [attribution_work(task, c) for path, c in cells.items() if not (path / SCORES).is_file()]
    label = f"{study.name} {name}"
    if works:
        groups = part_groups(task.on(study_rows(cfg, study, name)))
        compute_in_parts(works, groups, task.shard, label, task.classifier.remembering)
    if all((path / SCORES).is_file() for path in cells):
        for cell in cells.values():
            degrade_cell(task, cell)
    else:
        print(f"{label}: other shards still attribute; run the same command again to degrade.")
