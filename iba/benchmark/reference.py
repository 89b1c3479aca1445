"""REFERENCE, slow on purpose: one instance at a time, with the work of the authors' released code.

Nothing in the pipeline imports this file. The benchmark times it, and the tests compare every score of
ours with it. It uses the plain Hugging Face model, all layers, every position, float32:

- IBA: `n_copies` copies of the input run through the WHOLE model for every step, a hook swaps the layer's
  output for T, and the backward pass goes through all layers and to all weights (nothing is frozen);
- LIME: the perturbed texts of an instance in one forward pass, every one padded to `pad_to` (512);
- LIME as released: the lime package's explainer, every perturbed text tokenised by itself;
- IG: Captum on the whole model;
- degradation: one forward pass for every step, repeated counts included.

What differs from the released code is what would change scores (target class, masks, numerics): those
follow the pipeline, so that equal scores can be asked of both.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from captum.attr import IntegratedGradients
from jaxtyping import Float
from lime.lime_text import LimeTextExplainer
from torch import Tensor, nn
from transformers import PreTrainedModel

from baselines.lime_released import LimeReleased, word_scores
from iba.attribution import RELEASED_STD, InformationBottleneck
from iba.attributor import State, instance_seed
from iba.bottleneck import Noise, noise_bank
from iba.data.tokens import Instance
from iba.evaluation.degradation import Ranked, n_removed
from iba.models.classifier import Classifier


class ReferenceModel:
    """The plain Hugging Face model of a classifier: a copy in float32 whose parameters require gradients."""

    def __init__(self, classifier: Classifier) -> None:
        self.model: PreTrainedModel = copy.deepcopy(classifier.model).float().requires_grad_(True).eval()
        self.tokenizer = classifier.tokenizer
        self.device = classifier.device
        self.family = classifier.post_norm.family
        self.segmented, self.label_id = self.family.segments, classifier.label_id
        self.resolve_layer = classifier.resolve_layer

    def layer(self, number: int) -> nn.Module:
        """The module of a 1-based layer."""
        found: nn.Module = attrgetter(self.family.layers)(self.model.base_model)[number - 1]
        return found

    def inputs(self, ids: Sequence[Sequence[int]], segments: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Rows of equal length as the model's keyword arguments, all positions attended to."""
        tensors = {"input_ids": torch.tensor(ids, device=self.device)}
        tensors["attention_mask"] = torch.ones_like(tensors["input_ids"])
        if self.segmented:
            tensors["token_type_ids"] = torch.tensor(segments, device=self.device)
        return tensors

    def logits(self, **inputs: Tensor) -> Float[Tensor, "rows classes"]:
        """The whole model's logits."""
        logits: Tensor = self.model(**inputs).logits
        return logits


def iba(
    reference: ReferenceModel, method: InformationBottleneck, state: State, instance: Instance, target: int
) -> Float[np.ndarray, " tokens"]:
    """KL in nats per token after the optimisation, with the settings of `method` and what it learned."""
    settings = method.bottleneck
    number = reference.resolve_layer(method.layer)
    inputs = reference.inputs(
        [instance.input_ids] * settings.n_copies, [instance.token_type_ids] * settings.n_copies
    )
    hidden, noise = _states(reference, method, state, number, instance)
    # As ours keeps it: drawing the same noise for every instance would not be the released code's work.
    bank = noise_bank(method.seed, settings.n_copies, method.max_tokens, hidden.shape[-1], reference.device)
    targets = torch.full((settings.n_copies,), target, device=reference.device)
    alpha = torch.full_like(hidden, settings.alpha_init, requires_grad=True)
    optimiser = torch.optim.Adam([alpha], lr=settings.learning_rate)
    for step in range(settings.n_steps):
        epsilon = noise.mean + noise.std * bank.step(step, len(instance))
        losses: list[Tensor] = []

        def insert(module: nn.Module, arguments: Any, output: Tensor, epsilon: Tensor = epsilon) -> Tensor:
            keep = alpha.sigmoid()
            losses.append(_kl(alpha, output[:1], noise).mean())  # noqa: B023 - called within this step only
            return keep * output + (1 - keep) * epsilon

        with reference.layer(number).register_forward_hook(insert):
            logits = reference.logits(**inputs)
        loss = nn.functional.cross_entropy(logits, targets) + settings.beta * losses[0]
        optimiser.zero_grad()
        reference.model.zero_grad()
        loss.backward()
        optimiser.step()
    return _kl(alpha, hidden, noise).sum(-1)[0].detach().cpu().numpy()


def lime(
    reference: ReferenceModel, instance: Instance, target: int, n_samples: int, seed: int, pad_to: int = 512
) -> Float[np.ndarray, " tokens"]:
    """LIME's weight per token; all perturbed texts are padded to `pad_to` tokens."""
    removable = [i for i, special in enumerate(instance.special) if not special]
    fixed = [i for i, special in enumerate(instance.special) if special]
    pad = reference.tokenizer.pad_token_id

    def predict(texts: list[str]) -> np.ndarray:
        kept = [sorted([*fixed, *map(int, text.split())]) for text in texts]

        def rows(values: Sequence[int], fill: int) -> list[list[int]]:
            return [[values[i] for i in k] + [fill] * (pad_to - len(k)) for k in kept]

        inputs = reference.inputs(rows(instance.input_ids, pad), rows(instance.token_type_ids, 0))
        inputs["attention_mask"] = torch.tensor(rows([1] * len(instance), 0), device=reference.device)
        with torch.no_grad():
            return np.asarray(reference.logits(**inputs).softmax(-1).cpu())

    explainer = LimeTextExplainer(
        split_expression=r"\s+", bow=False, mask_string="", random_state=instance_seed(seed, instance.id)
    )
    explanation = explainer.explain_instance(
        " ".join(map(str, removable)),
        predict,
        labels=(target,),
        num_features=len(removable),
        num_samples=n_samples,
    )
    scores = np.zeros(len(instance))
    for feature, weight in explanation.as_map()[target]:
        scores[removable[int(feature)]] = weight
    return scores


def lime_released(
    reference: ReferenceModel, method: LimeReleased, instance: Instance, explained: int
) -> Float[np.ndarray, " tokens"]:
    """The released LIME's score per token for the class `explained`."""
    example, tokenizer = instance.example, reference.tokenizer
    pair = example.text_pair is not None

    def predict(texts: list[str]) -> np.ndarray:
        found = tokenizer(texts, truncation=True, max_length=method.max_length)["input_ids"]
        length = max(method.pad_to, *map(len, found))
        rows = [ids + [tokenizer.pad_token_id] * (length - len(ids)) for ids in found]
        with torch.no_grad():
            logits = reference.logits(**reference.inputs(rows, [[0] * length] * len(rows)))
        return np.asarray(logits.softmax(-1).cpu())

    explanation = LimeTextExplainer(random_state=instance_seed(method.seed, instance.id)).explain_instance(
        f"{example.text} ****** {example.text_pair}" if pair else example.text,
        predict,
        labels=(explained,),
        num_features=len(instance),
        num_samples=method.n_samples_pair if pair else method.n_samples,
    )
    pieces = [str(piece) for piece in tokenizer.convert_ids_to_tokens(list(instance.input_ids))]
    return np.array(word_scores(pieces, explanation.as_list(label=explained)))


def integrated_gradients(
    reference: ReferenceModel, instance: Instance, target: int, n_steps: int
) -> Float[np.ndarray, " tokens"]:
    """IG of the target's probability from a baseline of [PAD], summed over features."""
    embeddings = reference.model.get_input_embeddings()
    inputs = reference.inputs([instance.input_ids], [instance.token_type_ids])
    ids = inputs.pop("input_ids")
    special = torch.tensor([instance.special], device=reference.device)
    blank = torch.where(special, ids, torch.full_like(ids, reference.tokenizer.pad_token_id))
    names = list(inputs)

    def probability(words: Tensor, *rest: Tensor) -> Tensor:
        return reference.logits(inputs_embeds=words, **dict(zip(names, rest, strict=True))).softmax(-1)

    attributed = IntegratedGradients(probability).attribute(
        embeddings(ids).detach(),
        baselines=embeddings(blank).detach(),
        target=target,
        additional_forward_args=tuple(inputs.values()),
        n_steps=n_steps,
    )
    return np.asarray(attributed.sum(-1)[0].detach().cpu())


def degradation(
    reference: ReferenceModel, instance: Ranked, fractions: Sequence[float]
) -> Float[np.ndarray, " fractions"]:
    """The target's probability after every fraction of tokens was deleted; one forward pass for each."""
    found = []
    for fraction in fractions:
        count = n_removed(fraction, len(instance.input_ids), len(instance.removal))
        gone = set(instance.removal[:count])
        kept = [i for i in range(len(instance.input_ids)) if i not in gone]
        inputs = reference.inputs(
            [[instance.input_ids[i] for i in kept]], [[instance.token_type_ids[i] for i in kept]]
        )
        with torch.no_grad():
            found.append(float(reference.logits(**inputs).softmax(-1)[0, instance.target]))
    return np.array(found)


def _states(
    reference: ReferenceModel, method: InformationBottleneck, state: State, number: int, instance: Instance
) -> tuple[Tensor, Noise]:
    """The layer's output for one instance, and the noise that `method` asks for."""
    inputs = reference.inputs([instance.input_ids], [instance.token_type_ids])
    with torch.no_grad():
        states = reference.model(**inputs, output_hidden_states=True).hidden_states
    if method.noise == "layer_input":
        return states[number], Noise(states[number - 1], torch.tensor(RELEASED_STD, device=reference.device))
    mean, std = state["noise_mean"], state["noise_std"]
    return states[number], Noise(mean.to(reference.device), std.to(reference.device))


def _kl(alpha: Tensor, hidden: Tensor, noise: Noise) -> Tensor:
    """KL of two normal distributions by torch: N(λX + (1−λ)μ_X, ((1−λ)σ_X)²) against N(μ_X, σ_X²), nats."""
    keep, noisy = alpha.sigmoid(), (-alpha).sigmoid()
    mean, std = noise.mean.expand_as(hidden), noise.std.expand_as(hidden)
    restricted = torch.distributions.Normal(keep * hidden + noisy * mean, noisy * std)
    return torch.distributions.kl_divergence(restricted, torch.distributions.Normal(mean, std))
