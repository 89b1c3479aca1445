"""The size of a token's hidden state: IBA before its first optimisation step.

With every gate open equally wide, as it is at the start, IBA's score is an affine function of
‖(x − μ_X)/σ_X‖² under per-feature noise, and of the squared norm of the layer's update under the released
code's noise (mean: the layer's input; a constant σ). So this is the control for IBA: what its optimisation
adds must show beyond it. It is not IBA's limit of β → 0: the classifier's own loss opens and closes gates
even at β = 0.
Cost: one forward pass up to the layer.
It cannot explain a class: all classes get the same scores.
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Int
from torch import Tensor

from iba.attributor import Attribution, FitData, State
from iba.data.tokens import TokenBatch
from iba.models.classifier import Classifier
from iba.noise import feature_statistics
from iba.settings import Count, Layer


class HiddenNorm:
    """L2 norm per token after `layer` (1-based, or a fraction of depth).

    of: "hidden" — the hidden state itself; "standardised" — minus the mean, over the standard deviation per
    feature of `n_statistics` training instances; "update" — the layer's output minus its input.
    """

    copies = 1
    needs = "hidden"
    concurrent = False

    def __init__(
        self,
        layer: Layer,
        of: Literal["hidden", "standardised", "update"] = "standardised",
        n_statistics: Count = 1000,
    ) -> None:
        self.layer, self.of, self.n_statistics = layer, of, n_statistics
        self._state: State = {}

    def fit(self, classifier: Classifier, data: FitData) -> State:
        """Feature statistics, where they are asked for."""
        if self.of != "standardised":
            return {}
        return feature_statistics(classifier, data, classifier.resolve_layer(self.layer), self.n_statistics)

    def restore(self, state: State) -> None:
        """Take the feature statistics."""
        self._state = state

    def attribute(
        self, classifier: Classifier, batch: TokenBatch, target: Int[Tensor, " batch"]
    ) -> Attribution:
        """Non-negative scores, blind to the target."""
        layer = classifier.resolve_layer(self.layer)
        states = classifier.hidden_states(batch, [layer - 1, layer])
        vector = states[layer]
        if self.of == "update":
            vector = vector - states[layer - 1]
        if self.of == "standardised":
            mean, std = (self._state[name].to(vector.device) for name in ("noise_mean", "noise_std"))
            vector = (vector - mean) / std
        return Attribution(vector.norm(dim=-1).masked_fill(~batch.attention_mask, 0.0))
