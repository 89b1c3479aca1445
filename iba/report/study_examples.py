"""The single texts of a study, with all that is said of them on figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from iba.report.rows import Stored
from iba.report.study_rows import METHOD, record, small_file


@dataclass(frozen=True)
class StudyExample:
    """One text at all points of a study under one protocol; `layer`: where the bottleneck stood, if known."""

    dataset: str
    protocol: str
    instance_id: str
    target: str
    layer: int | None
    rows: pd.DataFrame


def load(stored: Stored, study: str) -> list[StudyExample]:
    """The texts that were kept of a study, by protocol and data set; empty without any."""
    rows = small_file(stored, study, "examples")
    if rows is None:
        return []
    return list(
        _examples(stored, study, rows[(rows["method"] == METHOD) & (rows["point"].str.contains("="))])
    )


def _examples(stored: Stored, study: str, rows: pd.DataFrame) -> Iterator[StudyExample]:
    for protocol in stored.names.protocols:
        for dataset in stored.datasets:
            mine = rows[(rows["protocol"] == protocol) & (rows["dataset"] == dataset)]
            resolved = record(stored, study, dataset, protocol).get("provenance", {}).get("resolved", {})
            labels = stored.classifiers[dataset]["provenance"]["labels"]
            for instance_id in mine["instance_id"].unique():
                one = mine[mine["instance_id"] == instance_id]
                target = str(labels[int(one["target"].iloc[0])])
                yield StudyExample(dataset, protocol, str(instance_id), target, resolved.get("layer"), one)


def heading(stored: Stored, example: StudyExample) -> str:
    """Data set, instance, explained class, protocol; a study's own text is called that."""
    data, protocol = stored.names.datasets[example.dataset], stored.names.protocols[example.protocol]
    kind, _, number = example.instance_id.partition(":")
    which = f"own text {int(number) + 1} ({data})" if kind == "text" else f"{data} {example.instance_id}"
    return f"{which}, target {example.target} ({protocol})"


def texts(examples: list[StudyExample]) -> str:
    """How many texts these are, for a caption."""
    n = len({(example.dataset, example.instance_id) for example in examples})
    return "one text" if n == 1 else f"{n} texts"
