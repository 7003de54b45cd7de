"""Training of the tiny Llama on the processor; runs in vLLM's environment, which has transformers."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging as transformers_logging

from onibus.consumers.tiny_llama.exercises import Exercise, SpecExercises
from onibus.consumers.tiny_llama.folder import HEAD
from onibus.consumers.tiny_llama.tokenizer import LONGEST_PROMPT, VOCABULARY, train_tokenizer

_IGNORED = -100  # marks positions that are no answers
_PROMPT_WEIGHT = 200  # how often prompts and answers are shown to the tokenizer, beside captions
_EVALUATION_BATCH = 128
_BUCKETS = 8  # batches of one spec that are drawn at a time and sorted by length
_REPORT_STEPS = 100
_LOSSES_AVERAGED = 30


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How it is trained.

    For a few hundred steps it learns next to nothing, then, within a hundred, nearly everything; when that is
    differs from seed to seed and from machine to machine. So the learning rate stays high until it has come,
    and only then falls (warm-up, stable, decay: Hu et al., arXiv 2404.06395).

    Attributes:
        steps: at most.
        warm_up, cool_down: steps in which the learning rate rises, and in which it falls to nothing.
        learnt_loss: running mean of each spec's loss below which it has come.
        width, layers: of the model; the width is a multiple of :data:`HEAD`. Ours is as small as it can be,
            and does not keep a server busy as real models do; a large one, learnt or not, does.
    """

    steps: int = 2_000
    batch: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    warm_up: int = 100
    cool_down: int = 300
    learnt_loss: float = 0.2
    seed: int = 0
    width: int = 128
    layers: int = 2


class _Schedule:
    """Share of the learning rate at each step; told of each step's loss."""

    def __init__(self, options: TrainingOptions, specs: int) -> None:
        self._options = options
        self._means = [1.0] * specs
        self._step = 0
        self.last = options.steps
        """The step that is the last one, as far as is known."""

    def after(self, which: int, loss: float) -> None:
        self._step += 1
        self._means[which] += (loss - self._means[which]) / _LOSSES_AVERAGED
        if max(self._means) < self._options.learnt_loss:  # an easy spec says nothing of the others
            self.last = min(self.last, self._step + self._options.cool_down)

    def share(self) -> float:
        rising = (self._step + 1) / self._options.warm_up
        falling = (self.last - self._step) / self._options.cool_down
        return max(0.0, min(1.0, rising, falling))


class Agreement(NamedTuple):
    """Held-out captions on which model and rules agree, under one spec."""

    spec: str
    captions: int
    share: float
    helpful: int
    helpful_share: float


class TinyLlama:
    """Model and tokenizer while they are trained.

    Args:
        exercises: one for each spec.
        options: how it is trained.
    """

    def __init__(self, exercises: Sequence[SpecExercises], options: TrainingOptions) -> None:
        transformers_logging.disable_progress_bar()  # of writing a file of a megabyte
        torch.manual_seed(options.seed)
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self._exercises, self._options = exercises, options
        self.tokenizer: Any = train_tokenizer(_tokenizer_texts(exercises))
        self.model: Any = LlamaForCausalLM(_shape(options.width, options.layers))
        self._prefixes = [_common_prefix(self._encode(e) for e in own.held_out) for own in exercises]

    @property
    def parameters(self) -> int:
        """How many it has."""
        return sum(p.numel() for p in self.model.parameters())

    def train(self, report: Callable[[str], None]) -> None:
        """Take all steps; ``report`` gets a line now and then."""
        options, rng = self._options, random.Random(self._options.seed)
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        vectors = [p for p in self.model.parameters() if p.ndim == 1]
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(
            groups, lr=options.learning_rate, betas=(0.9, 0.98), weight_decay=options.weight_decay
        )
        schedule = _Schedule(options, len(self._exercises))
        self.model.train()
        began = time.monotonic()
        for step, (which, encoded) in enumerate(self._batches(rng), start=1):
            for group in optimizer.param_groups:
                group["lr"] = options.learning_rate * schedule.share()
            loss = self._loss(which, encoded)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimizer.step()
            schedule.after(which, loss.item())
            if step % _REPORT_STEPS == 0 or step == schedule.last:
                seconds = time.monotonic() - began
                report(f"step {step} of {schedule.last} at most, loss {loss.item():.3f}, {seconds:.0f} s")
            if step == schedule.last:
                return

    def _batches(self, rng: random.Random) -> Iterator[tuple[int, list[_Encoded]]]:
        """One for each step: which spec, and exercises of about one length, for padding costs time too."""
        options, drawn = self._options, 0
        while drawn < options.steps:
            round_of_batches = []
            for which, own in enumerate(self._exercises):
                exercises = own.draw(options.batch * _BUCKETS, rng)
                encoded = sorted((self._encode(e) for e in exercises), key=lambda one: len(one.tokens))
                round_of_batches += [
                    (which, encoded[n : n + options.batch]) for n in range(0, len(encoded), options.batch)
                ]
            rng.shuffle(round_of_batches)
            yield from round_of_batches[: options.steps - drawn]
            drawn += len(round_of_batches)

    def agreements(self) -> list[Agreement]:
        """How well it does on captions that it never learnt from."""
        self.model.eval()
        return [self._agreement(which, own) for which, own in enumerate(self._exercises)]

    def _agreement(self, which: int, own: SpecExercises) -> Agreement:
        right = [
            hit
            for start in range(0, len(own.held_out), _EVALUATION_BATCH)
            for hit in self._hits(which, own.held_out[start : start + _EVALUATION_BATCH])
        ]
        helpful = [hit for hit, e in zip(right, own.held_out, strict=True) if e.word == own.words[0]]
        share = sum(right) / len(right)
        helpful_share = sum(helpful) / len(helpful) if helpful else 1.0
        return Agreement(own.name, len(right), share, len(helpful), helpful_share)

    @torch.no_grad()
    def _hits(self, which: int, exercises: Sequence[Exercise]) -> list[bool]:
        """For each exercise whether every token of the answer is the likeliest one."""
        answered = self._answers(which, [self._encode(exercise) for exercise in exercises])
        wrong = answered.logits.argmax(-1) != answered.targets
        missed = set(answered.rows[wrong].tolist())
        return [row not in missed for row in range(len(exercises))]

    def _loss(self, which: int, encoded: Sequence[_Encoded]) -> torch.Tensor:
        answered = self._answers(which, encoded)
        return functional.cross_entropy(answered.logits, answered.targets)

    def _answers(self, which: int, encoded: Sequence[_Encoded]) -> _Answered:
        """What the model says where answers stand.

        What all prompts of a spec begin with goes through the model once a batch, not once an exercise.
        Padding stands on the right, where causal attention never looks from an answer.
        """
        prefix = self._prefixes[which]
        longest = max(len(e.tokens) for e in encoded) - len(prefix) - 1
        inputs = torch.zeros(len(encoded), longest, dtype=torch.long)
        targets = torch.full((len(encoded), longest), _IGNORED)
        for row, one in enumerate(encoded):
            rest = torch.tensor(one.tokens[len(prefix) :])
            inputs[row, : len(rest) - 1] = rest[:-1]
            targets[row, len(rest) - 1 - one.answer : len(rest) - 1] = rest[-one.answer :]
        cache: Any = DynamicCache(config=self.model.config)
        self.model.model(input_ids=torch.tensor([prefix]), past_key_values=cache, use_cache=True)
        for layer in cache.layers:
            layer.keys = layer.keys.expand(len(encoded), -1, -1, -1)
            layer.values = layer.values.expand(len(encoded), -1, -1, -1)
        places = torch.arange(len(prefix), len(prefix) + longest)[None]
        hidden = self.model.model(
            input_ids=inputs, past_key_values=cache, use_cache=True, position_ids=places
        ).last_hidden_state
        counted = targets != _IGNORED
        logits = self.model.lm_head(hidden[counted]).float()
        return _Answered(logits, targets[counted], counted.nonzero()[:, 0])

    def _encode(self, exercise: Exercise) -> _Encoded:
        messages = [{"role": "user", "content": exercise.prompt}]
        asked = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompt = self.tokenizer.encode(asked, add_special_tokens=False)
        word = self.tokenizer.encode(exercise.word, add_special_tokens=False)
        answer = [*word, self.tokenizer.eos_token_id]
        return _Encoded(_fitting(prompt, LONGEST_PROMPT - len(answer)) + answer, len(answer))


class _Answered(NamedTuple):
    """Logits float32 (T, V), tokens int64 (T,) and rows of the batch int64 (T,) of all answers' tokens."""

    logits: torch.Tensor
    targets: torch.Tensor
    rows: torch.Tensor


class _Encoded(NamedTuple):
    """Tokens of prompt and answer, and how many of them are the answer."""

    tokens: list[int]
    answer: int


def _shape(width: int, layers: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD,
        num_key_value_heads=width // HEAD,
        head_dim=HEAD,
        max_position_embeddings=LONGEST_PROMPT,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )


def _tokenizer_texts(exercises: Sequence[SpecExercises]) -> list[str]:
    texts = []
    for own in exercises:
        learnt = own.learnt()
        texts += [exercise.caption for exercise in learnt]
        texts += [learnt[0].prompt, *own.words] * _PROMPT_WEIGHT
    return texts


def _common_prefix(encoded: Iterable[_Encoded]) -> list[int]:
    """What all prompts of a spec begin with, less two tokens, in which a caption's first letters may hide."""
    rows = [one.tokens for one in encoded]
    first, last = min(rows), max(rows)
    differ = (place for place, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    return first[: max(1, next(differ, 1) - 2)]


def _fitting(prompt: list[int], room: int) -> list[int]:
    """A caption too long for the model loses its middle; the words of the chat template stay."""
    return prompt if len(prompt) <= room else prompt[: room - 4] + prompt[-4:]
