"""What the report knows of a run: the frame of its rows, the records beside them, names and settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig

from iba.errors import UserError
from iba.evaluation.measures import MEASURES
from iba.evaluation.stats import Resampling, resampling
from iba.pipeline import views
from iba.pipeline.experiment import datasets, run_folder, selected
from iba.pipeline.views import StoredCell, Value, View
from iba.report.frame import DELETE, Annotated, Frame, compare, read_frame
from iba.report.paper import Paper
from iba.settings import plain

#: What identifies a cell of Table 1, in the order of tables.
CELL = ["protocol", "dataset", "method"]
#: What Table 1's methods are compared by.
TESTED = ("drop_11", "area_over")
#: Besides the measures: what the attribution stage's own clock said.
SECONDS = "seconds_per_instance"
#: The family of a method that names none.
OTHER = "other"
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Method:
    """What is printed of a method."""

    label: str
    colour: str
    family: str = OTHER
    explains_class: bool = True
    protocols: Sequence[str] = ()

    @classmethod
    def read(cls, config: DictConfig) -> Method:
        """From its configuration."""
        family, explains = str(config.get("family") or OTHER), bool(config.get("explains_class", True))
        return cls(str(config.label), str(config.color), family, explains, [*(config.get("protocols") or ())])

    def belongs(self, protocol: str) -> bool:
        """Whether the protocol has this method: one that names no protocols belongs to all."""
        return not self.protocols or protocol in self.protocols


@dataclass(frozen=True)
class Names:
    """What is printed for the selected members of a group, in the order in which they are listed."""

    datasets: dict[str, str]
    protocols: dict[str, str]
    methods: dict[str, str]
    colours: dict[str, str]


@dataclass(frozen=True, eq=False)  # equal only to itself, so that what is made of it can be cached
class Stored:
    """What the report reads of one run.

    `frame`: all rows. `cells`: all that is stored, by its name. `classifiers`: their records, by data set and
    fine-tuning seed; `seed`: the run's own. `known`: all methods that can be named; `evident`, `marked`:
    titles of the data sets whose evidence was planted, or marked by people. `note`: what the run is, in its
    preset's words; `notes`: the same of a data set.
    `methods_protocol`: of the table of all methods. `made_with`: for the foot of the figures.
    """

    folder: Path
    names: Names
    known: dict[str, Method]
    evident: dict[str, str]
    marked: dict[str, str]
    seed: int
    how: Resampling
    paper: Paper
    frame: Frame
    cells: dict[View, StoredCell]
    all_classifiers: dict[tuple[str, int], dict[str, Any]]
    note: str
    notes: dict[str, str]
    title: str
    methods_protocol: str
    made_with: str

    @cached_property
    def table1(self) -> Frame:
        """The degraded rows of Table 1's cells: the selected data sets, protocols and methods, no study."""
        return self.of_methods(self.names.methods, self.names.datasets).having("operator")

    def of_methods(self, methods: Iterable[str], sets: Iterable[str]) -> Frame:
        """The rows of other methods and data sets in Table 1's way, in the order given."""
        order = {"method": list(methods), "dataset": list(sets)}
        found = self.frame.of(study=None, seed=self.seed, **order)
        rows = found.rows.assign(**{k: found.rows[k].cat.set_categories(v) for k, v in order.items()})
        return replace(found, rows=rows)

    @cached_property
    def deletion(self) -> Frame:
        """Table 1's rows under the paper's operator."""
        return self.table1.of(operator=DELETE)

    @property
    def datasets(self) -> list[str]:
        """Data sets with stored rows, in the order of the configuration."""
        return self.table1.present("dataset")

    @property
    def protocols(self) -> list[str]:
        """Protocols with stored rows."""
        return self.table1.present("protocol")

    @property
    def methods(self) -> list[str]:
        """Methods with stored rows."""
        return self.table1.present("method")

    @property
    def classifiers(self) -> dict[str, dict[str, Any]]:
        """The records of the run's own classifiers, by data set."""
        return {name: record for (name, seed), record in self.all_classifiers.items() if seed == self.seed}

    def matrix(self, protocol: str, dataset: str, measure: str = "drop_11") -> pd.DataFrame:
        """One measure under the paper's operator: instances × methods, of one data set and protocol."""
        return self.deletion.of(protocol=protocol, dataset=dataset).matrix(measure)

    @cached_property
    def tests(self) -> pd.DataFrame:
        """The pairs of Table 1's methods: a family per protocol, data set and measure of `TESTED`."""
        families = product(self.protocols, self.datasets, TESTED)
        keys = ["protocol", "dataset", "measure"]
        return compare({family: self.matrix(*family) for family in families}, keys, self.how)

    def record(
        self, protocol: str, dataset: str, method: str, study: str | None = None, value: Value | None = None
    ) -> Record:
        """Settings and provenance of a cell; empty where it is not stored."""
        cell = self.cells.get(View(self.seed, study, value, protocol, dataset, method))
        return cell.record if cell else {}

    def scores(self, view: View) -> pd.DataFrame | None:
        """The token scores of a cell; None unless those of all its instances are stored."""
        cell = self.cells.get(view)
        scores = cell.scores() if cell else None
        return scores if cell and scores is not None and len(scores) == cell.record["n"] else None

    def records(self, frame: Frame | None = None) -> dict[tuple[str, str, str], Record]:
        """Those of the cells of a frame (Table 1's by default), by protocol, data set and method."""
        rows = (frame or self.table1).rows[CELL].drop_duplicates()
        wanted = rows.sort_values(["dataset", "protocol", "method"])
        return {(p, d, m): self.record(p, d, m) for p, d, m in wanted.to_numpy()}

    def say(self, key: str, value: Any) -> str:
        """What the value of a key is called."""
        known = {
            "dataset": self.names.datasets | self.evident | self.marked,
            "protocol": self.names.protocols,
            "method": {name: method.label for name, method in self.known.items()},
            "measure": {name: measure.heading for name, measure in MEASURES.items()}
            | {SECONDS: "s per instance ↓"},
        }
        return known.get(key, {}).get(value, str(value))


def load(cfg: DictConfig) -> Stored:
    """Read all that is stored under the names of `cfg`.

    `UserError` where there is nothing to report, or where what is compared has not seen the same instances.
    """
    annotated = {name: plain(config.get("annotated")) for name, config in selected(cfg.evident).items()}
    cells = [c for c in views.stored_cells(cfg) if c.degraded or annotated.get(c.view.dataset)]
    stored = _read(cfg, cells, annotated) if any(cell.degraded for cell in cells) else None
    if stored is None or stored.table1.rows.empty:
        raise UserError(f"{run_folder(cfg)} holds no degradation rows yet: run scripts/degrade.py first.")
    _refuse_without_classifier(stored)
    _refuse_other_model(stored, str(cfg.model.name))
    _refuse_unequal_samples(stored)
    return stored


def _read(cfg: DictConfig, cells: list[StoredCell], annotated: Mapping[str, Annotated]) -> Stored:
    known = {name: Method.read(config) for name, config in views.known_methods(cfg).items()}
    evident = {name: str(config.title) for name, config in selected(cfg.evident).items()}
    marked = {name: config for name, config in selected(cfg.evident).items() if annotated[name]}
    chosen = {name: known[name] for name in selected(cfg.method)}
    names = Names(
        {name: str(d.title) for name, d in datasets(cfg).items()},
        {name: str(p.title) for name, p in selected(cfg.protocol).items()},
        {name: method.label for name, method in chosen.items()},
        {name: method.colour for name, method in chosen.items()},
    )
    order = {"protocol": [*names.protocols], "dataset": [*(names.datasets | evident)], "method": [*known]}
    return Stored(
        folder=run_folder(cfg),
        names=names,
        known=known,
        evident={name: title for name, title in evident.items() if not annotated[name]},
        marked={name: str(config.title) for name, config in marked.items()},
        seed=int(cfg.finetune.seed),
        how=resampling(cfg),
        paper=Paper.read(Path(cfg.paths.root) / "results" / "published"),
        frame=read_frame(cells, views.predictions(cfg), order, annotated),
        cells={cell.view: cell for cell in cells},
        all_classifiers=views.classifiers(cfg),
        note=str(cfg.get("note") or ""),
        notes={d: str(c.note) for d, c in (marked | datasets(cfg)).items() if c.get("note")},
        title=str(cfg.model.title),
        methods_protocol=str(cfg.report.methods_protocol),
        made_with=_made_with(cfg),
    )


def _made_with(cfg: DictConfig) -> str:
    """Encoder and preset, and the run where it has a name of its own."""
    named = f"{cfg.model.title}, preset {cfg.preset_name}"
    return named if str(cfg.run) == str(cfg.preset_name) else f"{named}, run {cfg.run}"


def _refuse_without_classifier(stored: Stored) -> None:
    if missing := [name for name in stored.datasets if name not in stored.classifiers]:
        raise UserError(
            f"{stored.folder / missing[0]}: no classifier is stored: run scripts/finetune.py first."
        )


def _refuse_other_model(stored: Stored, name: str) -> None:
    for dataset, record in stored.classifiers.items():
        made_with = record.get("settings", {}).get("recipe", {}).get("model", {}).get("name", name)
        if made_with != name:
            raise UserError(
                f"{stored.folder / dataset} was made with model={made_with}, not with {name}: give the model "
                "(or the preset) that the run was made with."
            )


def _refuse_unequal_samples(stored: Stored) -> None:
    """Table 1's methods, and the points of a study, are compared instance by instance."""
    rows = stored.frame.rows
    rows = rows[rows["study"].notna() & rows["operator"].notna() | rows.index.isin(stored.table1.rows.index)]
    rows = rows.astype({"study": object, "value": object})
    rows["mark"] = pd.util.hash_array(rows["instance_id"].to_numpy(object))
    stage, one = ["seed", "study", "dataset", "protocol", "operator"], ["value", "method"]
    how: Any = {"observed": True, "sort": False, "dropna": False}
    samples = rows.groupby([*stage, *one], **how)["mark"].agg(["sum", "size"])
    for _, study, dataset, protocol, _ in (
        samples.groupby(stage, **how).nunique().query("sum > 1 or size > 1").index
    ):
        where = f"{dataset}, {protocol}" if pd.isna(study) else f"study {study}, {dataset}, {protocol}"
        raise UserError(f"{where}: degraded on different instances; run the stage again for all.")
