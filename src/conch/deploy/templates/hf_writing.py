"""Texts of several prompts at once, and what is known of each: its tokens, why it ended, how likely the tokens were."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from hf_generation import Cancelled, ClientsGone, generation_groups, until_gone
from hf_grammar import JsonGrammars
from hf_likelihoods import Likelihoods
from hf_serving import Outputs, Settings, seeded
from hf_text import pad
from transformers import StoppingCriteria, StoppingCriteriaList, StopStringCriteria

#: Most alternatives that `logprobs` may ask for.
MOST_LOGPROBS = 20


class Wishes(NamedTuple):
    """Request parameters that the pipeline does not know.

    Attributes:
        logprobs: how many alternatives to tell with the likelihood of each token; None for no likelihoods.
        json_schema: what the text has to be; None for any text.
    """

    seed: int | None = None
    logprobs: int | None = None
    json_schema: str | None = None


class Written(NamedTuple):
    """One sequence.

    Attributes:
        tokens: the new ones, with that which ended it and without the padding behind.
        logprobs: of the tokens but that which ended it; None unless they were asked for.
    """

    tokens: list[int]
    finish_reason: str
    logprobs: list[dict[str, Any]] | None = None


class TextWriter:
    """Continues prompts with the model of a pipeline."""

    def __init__(self, pipe: Any, settings: Settings) -> None:
        self.pipe, self.settings = pipe, settings
        self.can_pad = pipe.tokenizer is not None and pipe.tokenizer.pad_token_id is not None
        self.ends = end_tokens(pipe)
        self.grammars = JsonGrammars(pipe, self.ends)

    def write(
        self, parts: Sequence[dict[str, Any]], clients: Sequence[Cancelled], forward: dict[str, Any], wishes: Wishes
    ) -> list[tuple[dict[str, Any], list[Written]]]:
        """For each prompt, what the pipeline's forward makes of it, and its sequences.

        Prompts of similar length are continued together.

        Args:
            parts: what the pipeline's preprocess made.
            forward: arguments of the pipeline's forward.
        """
        names = [name for name in ("input_ids", "attention_mask") if name in parts[0]]
        prompts = [{name: part[name] for name in names} for part in parts]
        lengths = [prompt["input_ids"].shape[1] for prompt in prompts]
        made: list[Any] = [None] * len(parts)
        for group in generation_groups(lengths, self.settings, can_pad=self.can_pad, seed=wishes.seed):
            batch = pad([prompts[index] for index in group], self.pipe.tokenizer)
            batch["prompt_text"] = [parts[index]["prompt_text"] for index in group]
            output, sequences = self.write_batch(batch, [clients[index] for index in group], forward, wishes)
            ids = output["input_ids"]  # none for an empty prompt
            for row, index in enumerate(group):
                own = {
                    "generated_sequence": output["generated_sequence"][row : row + 1],
                    "input_ids": None if ids is None else ids[row : row + 1],
                    "prompt_text": batch["prompt_text"][row],
                }
                made[index] = (own, sequences[row])
        return made

    def write_batch(
        self, batch: dict[str, Any], clients: Sequence[Cancelled], forward: dict[str, Any], wishes: Wishes
    ) -> tuple[dict[str, Any], list[list[Written]]]:
        """What the pipeline's forward makes of a batch, and the sequences of each prompt."""
        prompt_text = list(batch["prompt_text"])
        if self.beams(forward) > 1:
            if wishes.logprobs is not None or wishes.json_schema:
                raise ValueError("the request parameters 'logprobs' and 'json_schema' need num_beams=1")
            with seeded(wishes.seed):
                output = self.pipe.forward(batch, stopping_criteria=until_gone(clients), **forward)
            batch["prompt_text"] = prompt_text
            return output, self.of_beams(output, forward)
        stops = forward.get("stop_strings")
        options = {name: value for name, value in forward.items() if name not in ("stop_strings", "tokenizer")}
        processors = [self.grammars.grammar(wishes.json_schema)] if wishes.json_schema else []
        with contextlib.ExitStack() as stack:
            watch = None
            if wishes.logprobs is not None:
                watch = stack.enter_context(Likelihoods(self.pipe.model, self.pipe.tokenizer, most(wishes.logprobs)))
            stop = StopStringCriteria(self.pipe.tokenizer, stops) if stops else None
            course = Course(ClientsGone(clients), stop, self.ends, watch)
            criteria = StoppingCriteriaList([course])
            stack.enter_context(seeded(wishes.seed))
            output = self.pipe.forward(batch, stopping_criteria=criteria, logits_processor=processors, **options)
        batch["prompt_text"] = prompt_text
        return output, course.sequences(output["generated_sequence"])

    def beams(self, forward: dict[str, Any]) -> int:
        default = getattr(getattr(self.pipe, "generation_config", None), "num_beams", None)
        return forward.get("num_beams") or default or self.pipe.model.generation_config.num_beams or 1

    def of_beams(self, output: dict[str, Any], forward: dict[str, Any]) -> list[list[Written]]:
        """The sequences of a beam search, whose course nobody followed."""
        ids = output["input_ids"]
        new = output["generated_sequence"][:, :, 0 if ids is None else ids.shape[1] :]
        return [[self.of_beam(tokens, forward.get("stop_strings") or []) for tokens in row] for row in new.tolist()]

    def of_beam(self, tokens: list[int], stops: Sequence[str]) -> Written:
        padding = self.pipe.tokenizer.pad_token_id
        size = len(tokens)
        while size and padding is not None and tokens[size - 1] == padding:
            size -= 1
        # Where padding looks like the end of a text, the first of it was that end.
        size = min(size + (padding in self.ends), len(tokens))
        ended = bool(size) and tokens[size - 1] in self.ends
        ended = ended or any(stop in self.pipe.tokenizer.decode(tokens[:size]) for stop in stops)
        return Written(tokens[:size], "stop" if ended else "length")


class Course(StoppingCriteria):
    """Follows the sequences of one call of `generate`.

    Args:
        gone, stop: end sequences: those of clients that left, and those that a certain text came in.
        ends: the tokens that end a text.
    """

    def __init__(
        self,
        gone: StoppingCriteria,
        stop: StoppingCriteria | None,
        ends: frozenset[int],
        likelihoods: Likelihoods | None,
    ) -> None:
        self.gone, self.stop, self.ends, self.likelihoods = gone, stop, ends, likelihoods
        self.counts: list[int] = []
        self.reasons: list[str] = []  # "" while a sequence goes on
        self.prompt_size = 0

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        if not self.counts:
            self.counts, self.reasons = [0] * len(input_ids), [""] * len(input_ids)
            self.prompt_size = input_ids.shape[1] - 1
        gone = self.gone(input_ids, scores)
        stopped = torch.zeros_like(gone) if self.stop is None else self.stop(input_ids, scores)
        tokens = input_ids[:, -1].tolist()
        if self.likelihoods is not None:
            self.likelihoods.note(tokens, [not reason for reason in self.reasons])
        for row, token in enumerate(tokens):
            if not self.reasons[row]:
                self.counts[row] += 1
                ended = bool(stopped[row]) or token in self.ends
                self.reasons[row] = "stop" if ended else "gone" if gone[row] else ""
        return stopped | gone

    def sequences(self, generated: torch.Tensor) -> list[list[Written]]:
        """What was written, [prompts, sequences of each, tokens] with their prompts."""
        prompts, each = generated.shape[:2]
        flat = generated.reshape(prompts * each, -1).tolist()
        rows = [self.sequence(row, tokens) for row, tokens in enumerate(flat)]
        return [rows[number * each : (number + 1) * each] for number in range(prompts)]

    def sequence(self, row: int, generated: list[int]) -> Written:
        if not self.counts:  # no token was asked for
            return Written([], "length")
        tokens = generated[self.prompt_size : self.prompt_size + self.counts[row]]
        entries = None
        if self.likelihoods is not None:
            entries = self.likelihoods.entries[row]
            entries = entries[:-1] if tokens[-1] in self.ends else entries
        return Written(tokens, "stop" if self.reasons[row] == "stop" else "length", entries)


def end_tokens(pipe: Any) -> frozenset[int]:
    """The tokens that end a text."""
    ends = pipe.model.generation_config.eos_token_id
    return frozenset() if ends is None else frozenset([ends] if isinstance(ends, int) else ends)


def most(logprobs: int) -> int:
    """The number of alternatives, checked.

    Raises:
        ValueError: it is out of range.
    """
    if not 0 <= logprobs <= MOST_LOGPROBS:
        raise ValueError(f"request parameter 'logprobs' should be from 0 to {MOST_LOGPROBS}, got {logprobs}")
    return logprobs


def answer_outputs(prompt_tokens: int, sequences: Sequence[Written]) -> Outputs:
    """The outputs beside the texts, an entry a sequence."""
    logprobs = [each.logprobs for each in sequences]
    return {
        "finish_reason": [each.finish_reason for each in sequences],
        "prompt_tokens": [prompt_tokens],
        "completion_tokens": [len(each.tokens) for each in sequences],
        "logprobs": ["" if each is None else json.dumps(each, ensure_ascii=False) for each in logprobs],
    }
