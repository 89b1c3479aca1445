"""Once: a run from folders by protocol to cells by what they depend on; nothing is lost, which is checked.

`scripts/migrate.py preset=cpu 'dataset=[…]' method=all +old=FOLDER paths.data_dir=… paths.model_dir=…`
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from iba.cli import main
from iba.errors import UserError
from iba.evaluation.ranking import removal_order
from iba.models.pretrained import new_classifier
from iba.pipeline import views
from iba.pipeline.attribute import CELL, NUMBERS, SCORES, rounded, rows_path, stored_rows
from iba.pipeline.bench import Bench
from iba.pipeline.degrade import column, columns, degradation_path, long_form
from iba.pipeline.experiment import (
    Cell,
    Classified,
    RowSet,
    View,
    candidates,
    cell_folder,
    datasets,
    hashed,
    run_folder,
)
from iba.pipeline.finetune import CLASSIFIER
from iba.pipeline.store import read_json, read_parquet, write_json, write_parquet
from iba.pipeline.studies import study_rows
from iba.pipeline.tuning import tuning_path
from iba.settings import fingerprint, plain

#: The commit from which the states in which a bottleneck starts are float32.
FLOAT32 = "dd23340"
CELL_NAMES = ["protocol", "dataset", "method"]
EXAMPLE = ["instance_id", "label", "target", "tokens", "special", "scores"]
#: What older records say of a choice of β.
CHOICE = ("beta", "beta_grid", "calibration_drop_11", "n_calibration")
N_LAYERS = 12


@cache
def numerics(commit: str) -> int:
    """The version of the numerics at a commit."""
    commit = commit.removesuffix("+changes")
    asked = ["git", "merge-base", "--is-ancestor", FLOAT32, commit]
    return 2 if subprocess.run(asked, check=False).returncode == 0 else 1


@cache
def commit_time(commit: str) -> int:
    """When a commit was made."""
    commit = commit.removesuffix("+changes")
    return int(
        subprocess.run(["git", "log", "-1", "--format=%ct", commit], capture_output=True, check=True).stdout
    )


@dataclass(frozen=True)
class Old:
    """One folder of the old layout."""

    run: Path
    folder: Path
    seed: int
    study: str | None
    protocol: str
    dataset: str
    method: str

    @property
    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = read_json(self.folder / "attributions.json")
        return found

    def kept(self, name: str) -> pd.DataFrame | None:
        """What `diagnostics` or `examples` hold of the cell."""
        beside = self.folder / f"{name}.parquet"
        if beside.is_file():
            return read_parquet(beside)
        shared = (self.run / "studies" / self.study if self.study else self.run) / f"{name}.parquet"
        if not shared.is_file():
            return None
        rows = read_parquet(shared)
        mine = (rows[CELL_NAMES] == [self.protocol, self.dataset, self.method]).all(axis=1)
        mine &= rows["point"] == self.folder.name if self.study else True
        return rows[mine].drop(columns=[*CELL_NAMES, *({"point"} & {*rows})]) if mine.any() else None

    def attributions(self) -> pd.DataFrame | None:
        path = self.folder / "attributions.parquet"
        return read_parquet(path) if path.is_file() else self.kept("examples")

    def numbers(self) -> pd.DataFrame | None:
        path = self.folder / "attributions.parquet"
        if not path.is_file():
            return self.kept("diagnostics")
        rows = read_parquet(path)
        names = rows.select_dtypes("number").columns.difference(["label", "target"], sort=False)
        return rows[["instance_id", *names]] if len(names) else None


def runs(old: Path, seed: int) -> Iterator[tuple[Path, int]]:
    yield old, seed
    for folder in sorted((old / "seeds").glob("*")):
        yield folder, int(folder.name)


def cells(old: Path, seed: int, dataset: str) -> Iterator[Old]:
    for run, own in runs(old, seed):
        for path in sorted(run.glob(f"{dataset}/*/*/degradation.parquet")):
            protocol, method = path.parts[-3:-1]
            yield Old(run, path.parent, own, None, protocol, dataset, method)
        for path in sorted(run.glob(f"studies/*/{dataset}/*/*/*/degradation.parquet")):
            study, _, protocol, method = path.parts[-6:-2]
            yield Old(run, path.parent, own, study, protocol, dataset, method)


def migrate(cfg: DictConfig) -> None:
    """Write the run's new folders and compare them with the old ones."""
    old, found, before = Path(cfg.old) / cfg.run, {}, {}
    for name in datasets(cfg):
        bench = Bench.open(cfg, name)
        with suppress(UserError):  # the encoder is not here: its tokens are not known
            model, tokenizer = new_classifier(cfg.model, cfg.paths.model_dir, bench.dataset.labels, 0)
            bench.kept["fine-tuned"] = SimpleNamespace(model=model, tokenizer=tokenizer)
        trained = {
            run: classifier(cfg, run / name, bench.folder) for run, _ in runs(old, cfg.finetune.seed)
            if (run / name / CLASSIFIER).is_file()
        }  # fmt: skip
        tables_of_tries(cfg, old, bench, trained)
        # Where two are one cell by now, Table 1's stays, then the one of the later commit.
        olds = sorted(
            cells(old, cfg.finetune.seed, name),
            key=lambda o: (bool(o.study), -commit_time(o.record["provenance"]["git_commit"])),
        )
        for each in olds:
            before[each.folder] = each
            found[each.folder] = move(cfg, bench, each, trained[each.run])
    check(cfg, found, before)


def tables_of_tries(cfg: DictConfig, old: Path, bench: Bench, known: dict[Path, Classified]) -> None:
    """The campaign's tries with every row's drop."""
    for run, classified in known.items():
        for path in sorted(run.glob(f"tuning/{bench.dataset.train_name}/*.json")):
            record = read_json(path)
            settings, drops = record["settings"], read_parquet(path.with_suffix(".parquet"))
            if settings["weights_digest"] != classified.digest:
                continue  # another data set's classifier
            method = path.stem.rpartition("-")[0]
            tries = [
                each | {"_target_": each["_target_"].replace("iba.method.", "iba.attribution.")}
                for each in settings["method"]
            ]
            rows = RowSet(cfg.seed, settings["max_length"])
            view = View(0, None, None, "corrected", str(bench.dataset.name), method)
            cell = Cell(view, {"tries": tries}, "gold", settings["weights"], rows, {})
            held_out = {"digest": settings["calibration_digest"], "n": drops["instance_id"].nunique()}
            running = {"precision": settings["precision"]}
            key = cell.tuning_key(classified, held_out, running) | {
                "numerics": numerics(record["provenance"]["git_commit"])
            }
            new = tuning_path(run_folder(cfg), bench.dataset.train_name, method, key)
            means = drops.groupby("trial")["drop_11"].mean()
            found = {"settings": tries, "drop_11": means.tolist(), "chosen": int(means.idxmax())}
            write_json(new.with_suffix(".json"), {"key": key, **found, "provenance": record["provenance"]})
            write_parquet(new, drops)


def classifier(cfg: DictConfig, source: Path, folder: Path) -> Classified:
    record = read_json(source / CLASSIFIER)
    settings, about = record["settings"], record["provenance"]
    assert fingerprint(settings["recipe"]) == settings["classifier"]
    key = {
        "weights": about.pop("weights_sha256", f"recipe:{settings['classifier']}"),
        **{name: settings[name] for name in ("recipe", "sample_seed", "n", "test_digest", "scored_digest")},
        **{
            name: settings[name] for name in ("max_length", "precision", "fast", "layers") if name in settings
        },
        "numerics": numerics(about["git_commit"]),
    }
    target = folder / "classifiers" / hashed(f"seed={settings['recipe']['seed']}", key)
    write_parquet(target / "classifier.parquet", read_parquet(source / "classifier.parquet"))
    new = {"settings": key | {"n_layers": N_LAYERS}, "n": record["n"], "provenance": about}
    write_json(target / CLASSIFIER, new)
    return Classified.of(new)


def move(cfg: DictConfig, bench: Bench, old: Old, classified: Classified) -> Path:
    """Write one old folder as a cell; returns the table of its curves."""
    record, tested = old.record, read_json(old.folder / "degradation.json")
    settings, about = record["settings"], record["provenance"]
    study = cfg.known_studies[old.study] if old.study else None
    rows = study_rows(cfg, study, old.dataset) if study else RowSet(cfg.seed, settings["max_length"])
    rows = RowSet(settings["sample_seed"], settings["max_length"], settings["n"], rows.ids, rows.own)
    digest = settings["test_digest"]
    method = dict(settings["method"])
    method["_target_"] = method["_target_"].replace("iba.method.", "iba.attribution.")
    view = View(old.seed, old.study, None, old.protocol, old.dataset, old.method)
    version = numerics(about["git_commit"])
    running = {name: settings[name] for name in ("precision", "fast", "layers") if name in settings}
    learned = about.get("learned", {})
    cell = Cell(view, method, settings["target"], settings.get("weights", "fine-tuned"), rows, {})
    if "beta_grid" in learned:
        grid, drops = learned["beta_grid"], learned["calibration_drop_11"]
        plain_settings = {k: v for k, v in method.items() if k not in ("beta_grid", "n_calibration")}
        tried = Cell(
            view, plain_settings | {"tries": [{"beta": b} for b in grid]}, *list(vars(cell).values())[2:]
        )
        held_out = {"digest": settings["calibration_digest"], "n": learned["n_calibration"]}
        key = tried.tuning_key(classified, held_out, running) | {"numerics": version}
        path = tuning_path(run_folder(cfg), bench.dataset.train_name, old.method, key)
        chosen = int(np.argmax(drops))
        assert grid[chosen] == learned["beta"]
        found = {"settings": candidates(tried.settings), "drop_11": drops, "chosen": chosen}
        if (record_path := path.with_suffix(".json")).is_file() and read_json(record_path)[
            "chosen"
        ] != chosen:
            print(f"CONFLICT {record_path} from {old.folder}")
        write_json(record_path, {"key": key, **found, "provenance": about})
        about = about | {"learned": {k: v for k, v in learned.items() if k not in CHOICE}}
        cell = Cell(view, plain_settings | {"beta": grid[chosen]}, *list(vars(cell).values())[2:])
    elif "beta_grid" in method:
        kept = {k: v for k, v in method.items() if k not in ("beta_grid", "n_calibration")}
        cell = Cell(view, kept, *list(vars(cell).values())[2:])
    key = plain(cell.key(classified, {"digest": digest}, running) | {"numerics": version})
    folder = cell_folder(bench.folder, old.method, key)
    shared = bench_rows(bench, rows, old, digest)
    ids = read_parquet(shared, ["instance_id"])
    numbers = old.numbers()
    new = {"key": key, "method": cell.settings, "rows": shared.name, "provenance": about}
    write(folder / CELL, new, old)
    if numbers is not None:
        # A study's file has the columns of all its methods.
        numbers = numbers.dropna(axis=1, how="all")
        table = ids.merge(numbers, on="instance_id", how="left", validate="1:1")
        write(folder / NUMBERS, table.astype(dict.fromkeys(table.columns[1:], "float32")), old)
    write(folder / SCORES, scores(old, read_parquet(shared), len(bench.dataset.labels)), old)
    curves = degradation_path(folder, tested["settings"]["degradation"])
    degraded = {"settings": tested["settings"]["degradation"], "provenance": tested["provenance"]}
    write(curves.with_suffix(".json"), degraded, old)
    write(
        curves, wide(read_parquet(old.folder / "degradation.parquet"), tested["settings"]["degradation"]), old
    )
    return curves


def write(path: Path, content: Any, old: Old) -> None:
    """Write what is not there; tell where another old folder has other content for the same key."""
    frame = isinstance(content, pd.DataFrame)
    if path.is_file():
        known = content.get("scores", pd.Series([1])).notna().any() if frame else False
        same = read_parquet(path).equals(reread(content)) if known else True
        if not same:
            print(f"CONFLICT {path} from {old.folder}")
        return
    (write_parquet if frame else write_json)(path, content)


def reread(table: pd.DataFrame) -> pd.DataFrame:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write_parquet(Path(folder) / "t.parquet", table)
        return read_parquet(Path(folder) / "t.parquet")


def bench_rows(bench: Bench, rows: RowSet, old: Old, digest: str) -> Path:
    """The file of the rows; where the data set's file has changed since, what the old tables tell of them."""
    path = rows_path(bench, digest, rows.max_length)
    if path.is_file():
        return path
    found = bench.on(rows)
    if "fine-tuned" in bench.kept and found.samples.digests["test"] == digest:
        assert stored_rows(found) == path
        return path
    print(f"{old.folder}: {digest} is not in the data, or the encoder is not here: rows from the tables")
    curves = read_parquet(old.folder / "degradation.parquet")
    curves = curves[(curves["grid"] == "curve") & (curves["step"] == 9)].drop_duplicates("instance_id")
    labels = read_parquet(old.run / old.dataset / "classifier.parquet").set_index("instance_id")["label"]
    examples = old.kept("examples")
    known = {} if examples is None else {row["instance_id"]: row for row in examples.to_dict("records")}
    table = pd.DataFrame(
        {
            "instance_id": curves["instance_id"].to_numpy(),
            "label": labels[curves["instance_id"]].to_numpy("int16"),
            "n_tokens": curves["n_tokens"].to_numpy("int32"),
            "n_removable": curves["n_removed"].to_numpy("int32"),
            **{
                name: [known.get(i, {}).get(name) for i in curves["instance_id"]]
                for name in ("special", "tokens")
            },
            "evidence": None,
        }
    )
    write_parquet(path, table)
    return path


def scores(old: Old, rows: pd.DataFrame, n_labels: int) -> pd.DataFrame:
    found = old.attributions()
    known = {} if found is None else {row["instance_id"]: row for row in found.to_dict("records")}
    classes = read_parquet(old.folder / "degradation.parquet").groupby("instance_id")["target"].first()
    table = []
    for one in rows.to_dict("records"):
        row = known.get(one["instance_id"])
        # Where another class was explained, the curves' is the gold one.
        other = (one["label"] + 1) % n_labels
        target = other if old.record["settings"]["target"] == "other" else classes[one["instance_id"]]
        new: dict[str, Any] = {
            "instance_id": one["instance_id"],
            "target": np.int16(target),
            "order": None,
            "scores": None,
        }
        if row is not None:
            assert [*row["special"]] == [*one["special"]]
            assert one["tokens"] is None or [*row["tokens"]] == [*one["tokens"]]
            assert int(row["target"]) == target
            order = removal_order([*row["scores"]], row["special"], "most")
            new["order"] = np.array(order, np.uint16)
            whole = one["tokens"] is not None
            new["scores"] = rounded(np.array(row["scores"]), whole)
            if row.get("bits") is not None:
                new["bits"] = rounded(np.array(row["bits"]), whole)
        table.append(new)
    return pd.DataFrame(table)


def wide(rows: pd.DataFrame, settings: dict[str, Any]) -> pd.DataFrame:
    names = [column(*each[:4]) for each in columns(settings)]
    named = rows["operator"] + "/" + rows["order"] + "/" + rows["grid"] + "/" + rows["step"].astype(str)
    table = rows.assign(column=named).pivot(index="instance_id", columns="column", values="prob_target")
    first = rows.drop_duplicates("instance_id")
    table = table.loc[first["instance_id"], names].astype("float32").reset_index()
    table.insert(1, "target", first["target"].to_numpy("int16"))
    table.columns.name = None
    return table


def others(old: Old, folder: Path) -> Counter[str]:
    """How many numbers, scores and statements of records were found again."""
    count: Counter[str] = Counter()
    if (numbers := old.numbers()) is not None:
        numbers = numbers.dropna(axis=1, how="all").set_index("instance_id")
        new = read_parquet(folder / NUMBERS).set_index("instance_id")
        pd.testing.assert_frame_equal(numbers.astype("float32"), new.loc[numbers.index, numbers.columns])
        assert (numbers.dropna().astype("float32").astype("float64") == numbers.dropna()).all(axis=None), (
            folder
        )
        count["numbers"] += numbers.size
    if (examples := old.attributions()) is not None:
        new = read_parquet(folder / SCORES).set_index("instance_id")
        rows = read_parquet(folder.parent.parent / read_json(folder / CELL)["rows"]).set_index("instance_id")
        for row in examples.to_dict("records"):
            here, shared = new.loc[row["instance_id"]], rows.loc[row["instance_id"]]
            whole = shared["tokens"] is not None
            for name in {"scores", "bits"} & {name for name, value in row.items() if value is not None}:
                np.testing.assert_array_equal(here[name], rounded(np.array(row[name]), whole))
                count[f"{name} (whole)" if whole else name] += len(row[name])
            if whole:
                assert [*shared["tokens"]] == [*row["tokens"]]
            assert (row["target"], row["label"]) == (here["target"], shared["label"])
    record, new_record = old.record, read_json(folder / CELL)
    about = dict(record["provenance"])
    if "same_as" not in record:
        about["learned"] = {k: v for k, v in about.get("learned", {}).items() if k not in CHOICE}
        told = {k: v for k, v in new_record["provenance"].items() if k != "learned"}
        same = told == {k: v for k, v in about.items() if k != "learned"}
        count["provenances" if same else "provenances of a twin"] += 1
    return count


def check(cfg: DictConfig, moved: dict[Path, Path], before: dict[Path, Old]) -> None:
    """Every old row, number, score and record is found again, in the folder and by the view's name."""
    count: Counter[str] = Counter()
    for folder, curves in moved.items():
        old = read_parquet(folder / "degradation.parquet")
        rows = read_parquet(curves.parent.parent.parent / read_json(curves.parent / CELL)["rows"])
        settings = read_json(curves.with_suffix(".json"))["settings"]
        new = long_form(
            read_parquet(curves), settings, rows["n_tokens"].to_numpy(), rows["n_removable"].to_numpy()
        )
        names = [name for name in new.columns if name != "prob_target"]
        assert all(
            (old[name].astype(new[name].dtype).to_numpy() == new[name].to_numpy()).all() for name in names
        )
        if moved_apart := np.abs(old["prob_target"] - new["prob_target"]).max():
            count["folders whose cell is stored by a later commit"] += 1
            print(f"{folder}: {curves.parent} is of another commit, differs by {moved_apart:.2g} at most")
        count["degradation rows"] += len(old)
        if moved_apart == 0:
            count.update(others(before[folder], curves.parent))
    n_views = len(views.stored_cells(cfg))
    print(count, len(moved), "old folders,", len({*moved.values()}), "tables,", n_views, "views")


if __name__ == "__main__":
    main(migrate)
