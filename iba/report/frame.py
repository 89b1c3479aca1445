"""One frame of all stored rows, and what tables do with it: `summarise`, `compare` and `means_tested`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from iba.errors import UserError
from iba.evaluation.measures import MEASURES, Outcome
from iba.evaluation.stats import (
    Interval,
    Resampling,
    effect_size,
    holm,
    mean_intervals,
    percentiles,
    resampled_means,
    sign_flip_test,
)
from iba.pipeline.views import StoredCell

#: What identifies a row besides the instance; `value` is that of the varied quantity of a study.
KEYS = ["seed", "study", "value", "protocol", "dataset", "method", "operator"]
#: The columns of every estimate.
ESTIMATE = ["n", "estimate", "ci_low", "ci_high"]
#: The columns of every paired comparison.
PAIR = ["first", "second", "n", "difference", "ci_low", "ci_high", "effect_size", "p_value", "p_holm"]
#: By label, which sentences of a text people annotated (0: the first); None where evidence is planted.
Annotated = Sequence[Sequence[int]] | None
#: The paper's operator.
DELETE = "delete"


@dataclass(frozen=True, eq=False)
class Frame:
    """One row per seed, study, value, protocol, data set, method, operator and instance.

    `rows`: the `KEYS`; instance_id, target, `right` (the classifier predicts the target); a column per
    measure (`MEASURES`) and per number that a method reported, NaN where it is not known. `curves`: the
    target's probability at `fractions`, most important first, by the index of `rows`. `shares`: ERASER's.
    """

    rows: pd.DataFrame
    curves: Float[np.ndarray, "all steps"]
    fractions: Float[np.ndarray, " steps"]
    shares: Float[np.ndarray, " shares"]

    def of(self, **keys: Any) -> Frame:
        """The rows that have these values: of a list, one of them; None, no value at all."""
        chosen = np.ones(len(self.rows), bool)
        for name, wanted in keys.items():
            column = self.rows[name]
            if wanted is None:
                chosen &= column.isna().to_numpy()
            elif isinstance(wanted, list | tuple | set | frozenset | dict):
                chosen &= column.isin(list(wanted)).to_numpy()
            else:
                chosen &= (column == wanted).to_numpy(bool, na_value=False)
        return self.where(chosen)

    def having(self, column: str) -> Frame:
        """The rows that have a value."""
        return self.where(self.rows[column].notna().to_numpy())

    def where(self, chosen: np.ndarray) -> Frame:
        """The chosen rows."""
        return replace(self, rows=self.rows[chosen])

    def present(self, column: str) -> list[Any]:
        """The values of a key that have rows, in the order of the configuration; numbers ascending."""
        found = self.rows[column].dropna().unique()
        if isinstance(self.rows[column].dtype, pd.CategoricalDtype):
            known = set(found)
            return [name for name in self.rows[column].cat.categories if name in known]
        return sorted(found, key=lambda value: (isinstance(value, str), value))

    def matrix(self, measure: str, columns: str = "method") -> pd.DataFrame:
        """One number: instances (by id) × the values of a key that have it."""
        parts = {
            value: self.rows.loc[places].set_index("instance_id")[measure]
            for value, places in self._places(columns)
        }
        found = pd.DataFrame({value: part for value, part in parts.items() if part.notna().any()})
        return found.sort_index()

    def stacked(self, columns: str = "method") -> tuple[list[Any], Float[np.ndarray, "n k steps"]]:
        """The curves of the values of a key, instances by id."""
        parts = {
            value: self.rows.loc[places].sort_values("instance_id") for value, places in self._places(columns)
        }
        curves = [self.curves[part.index] for part in parts.values()]
        return list(parts), np.stack(curves, axis=1) if curves else np.empty((0, 0, len(self.fractions)))

    def _places(self, column: str) -> Iterator[tuple[Any, pd.Index]]:
        groups = self.rows.groupby(column, observed=True, sort=False).groups
        return ((value, groups[value]) for value in self.present(column))


def read_frame(
    cells: Sequence[StoredCell],
    predictions: Mapping[tuple[str, int], pd.DataFrame],
    order: Mapping[str, Sequence[str]],
    evident: Mapping[str, Annotated] | None = None,
) -> Frame:
    """The rows of `cells`; those that were not degraded have no operator and no curve.

    `order`: of the protocols, data sets and methods. `evident`: data sets whose evidence is known, of which
    token scores are read; with the annotated sentences where people marked it. `UserError` where cells were
    degraded otherwise.
    """
    tables, curves, steps = [], [], dict[str, np.ndarray]()
    predicted = {key: rows.set_index("instance_id")["predicted"] for key, rows in predictions.items()}
    for cell in sorted(cells, key=lambda cell: not cell.degraded):
        for operator, outcome, about in _outcomes(cell, steps, evident or {}):
            scores = {name: measure.score(outcome) for name, measure in MEASURES.items()}
            table = about.assign(operator=operator, **{n: s for n, s in scores.items() if s is not None})
            classes = predicted.get((cell.view.dataset, cell.view.seed))
            tables.append(_with_numbers(table, cell, classes).assign(**asdict(cell.view)))
            curves.append(outcome.most)
    rows = pd.concat(tables, ignore_index=True)
    for name in ("study", "protocol", "dataset", "method", "operator"):
        rows[name] = pd.Categorical(rows[name], order.get(name, sorted(rows[name].dropna().unique())))
    rows = rows.reindex(columns=[*rows.columns, *(MEASURES.keys() - rows.columns)])
    return Frame(rows, np.concatenate(curves), steps["curve"], steps.get("eraser", np.empty(0)))


def _refuse_other_steps(known: dict[str, np.ndarray], grid: str, fractions: np.ndarray) -> None:
    """All cells must share their steps, or means would be of different things."""
    if not np.array_equal(known.setdefault(grid, fractions), fractions):
        raise UserError(
            "the stored cells were degraded at different steps: run scripts/degrade.py for all of them "
            "with one degradation.n_points and one eraser_shares, in a folder of its own (run=NAME)."
        )


def _outcomes(
    cell: StoredCell, steps: dict[str, np.ndarray], evident: Mapping[str, Annotated]
) -> Iterator[tuple[str | None, Outcome, pd.DataFrame]]:
    """By operator: what the removals did, and who the instances are, in their stored order."""
    known = cell.scores() if cell.view.dataset in evident else None
    if not cell.degraded:
        if known is not None:
            none = np.full((len(known), len(steps["curve"])), np.nan)
            evidence = _evidence(known, evident[cell.view.dataset])
            yield None, Outcome(steps["curve"], none, **evidence), known[["instance_id", "target"]]
        return
    about, curves = cell.probabilities()
    evidence = {}
    if known is not None and {*about["instance_id"]} <= {*known["instance_id"]}:
        known = known.set_index("instance_id").loc[about["instance_id"]]
        evidence = _evidence(known, evident[cell.view.dataset])
    for (_, _, grid), (fractions, _) in curves.items():
        _refuse_other_steps(steps, grid, fractions)
    for operator in sorted({operator for operator, *of in curves if of == ["most", "curve"]}):
        most, least, without, alone = (
            curves.get((operator, order, grid), (None, None))[1]
            for grid in ("curve", "eraser")
            for order in ("most", "least")
        )
        assert most is not None
        yield operator, Outcome(steps["curve"], most, least, without, alone, **evidence), about


def _evidence(scores: pd.DataFrame, annotated: Annotated) -> dict[str, pd.DataFrame]:
    """`planted`, or `marked` by people: of the latter, tokens of sentences that were not annotated for the
    text's class count neither as evidence nor as ranked."""
    if annotated is None:
        return {"planted": scores}
    rows = [
        (np.asarray(row.evidence) & counted, [place for place in row.order if counted[place]])
        for row in scores.itertuples()
        for counted in [np.isin((np.cumsum(row.special) > 1).astype(int), annotated[row.label])]
    ]
    return {"marked": pd.DataFrame(rows, columns=["evidence", "order"])}


def _with_numbers(table: pd.DataFrame, cell: StoredCell, predicted: pd.Series | None) -> pd.DataFrame:
    """With whether the classifier predicts the target, and with the method's own numbers."""
    if predicted is not None:
        right = table["instance_id"].map(predicted) == table["target"]
        table = table.assign(right=right.to_numpy(bool))
    numbers = cell.numbers()
    return table if numbers is None else table.merge(numbers, "left", "instance_id")


def summarise(frame: Frame, by: Sequence[str], measures: Sequence[str], how: Resampling) -> pd.DataFrame:
    """A row per group of `by` and measure that has values: `by`, measure, n, estimate, ci_low, ci_high.

    Mean over instances with its bootstrap interval.
    """
    ordered = frame.rows.sort_values("instance_id", kind="stable")  # the draws go by place
    keys, samples = [], []
    for key, rows in ordered.groupby(list(by), observed=True):
        for measure in measures:
            values = rows[measure].dropna().to_numpy(float)
            if len(values):
                keys.append((*key, measure))
                samples.append(values)
    head = pd.DataFrame(keys, columns=[*by, "measure"])
    for name in by:
        head[name] = head[name].astype(ordered[name].dtype)
    head["measure"] = pd.Categorical(head["measure"], measures)
    return head.join(estimates(mean_intervals(samples, how)))


def estimates(found: Iterable[Interval]) -> pd.DataFrame:
    """Intervals as a table with the columns `ESTIMATE`."""
    numbers = [(one.n, one.estimate, one.low, one.high) for one in found]
    return pd.DataFrame(numbers, columns=ESTIMATE, dtype=float).astype({"n": int})


def compare(
    matrices: Mapping[tuple[Any, ...], pd.DataFrame],
    by: Sequence[str],
    how: Resampling,
    tests: Resampling | None = None,
) -> pd.DataFrame:
    """All pairs of the columns of every matrix (instances × columns), each matrix one family of tests.

    `how` draws the intervals, `tests` the p-values (by default, as many as resolve the smallest one printed).
    Columns: `by`, first, second, n; `difference` = mean of first − second with its interval; `effect_size`
    (Cohen's d of the paired differences); `p_value` of the sign-flip test and `p_holm`, corrected for all
    pairs of the family.
    """
    families = [
        _pairs(matrix, how, tests).assign(**dict(zip(by, key, strict=True)))
        for key, matrix in matrices.items()
        if matrix.shape[1] > 1
    ]
    columns = [*by, *PAIR]
    return pd.concat(families, ignore_index=True)[columns] if families else pd.DataFrame(columns=columns)


def means_tested(differences: pd.DataFrame, how: Resampling, tests: Resampling | None = None) -> pd.DataFrame:
    """Whether the mean of every column (instances × columns) is 0, by sign-flip tests of one Holm family.

    A row per column of `differences`, with the columns `ESTIMATE` and `p_holm`. `how`, `tests`: as above.
    """
    columns = np.ascontiguousarray(differences.to_numpy(float).T)
    p_holm = holm(sign_flip_test(columns, tests or how.resolving(len(columns))))
    return estimates(mean_intervals([*columns], how)).set_index(differences.columns).assign(p_holm=p_holm)


def _pairs(matrix: pd.DataFrame, how: Resampling, tests: Resampling | None) -> pd.DataFrame:
    values = matrix.to_numpy(float)
    first, second = np.array(list(combinations(range(matrix.shape[1]), 2))).T
    differences = values[:, first] - values[:, second]
    p_values = sign_flip_test(differences.T, tests or how.resolving(len(first)))
    if len(values) > 1:
        means = resampled_means(values, how)
        low, high = percentiles(means[:, first] - means[:, second], how)
    else:
        low = high = np.full(len(first), np.nan)
    return pd.DataFrame(
        {
            "first": matrix.columns[first],
            "second": matrix.columns[second],
            "n": len(values),
            "difference": differences.mean(0),
            "ci_low": low,
            "ci_high": high,
            "effect_size": [effect_size(d) for d in differences.T],
            "p_value": p_values,
            "p_holm": holm(p_values),
        }
    )
