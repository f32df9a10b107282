"""Models of an encoder and a decoder that write a text of another: tokens in, tokens out, texts of tokens."""

from __future__ import annotations

import json
from typing import Any

import torch
import transformers
from hf_generation import Cancelled, generation_groups, until_gone
from hf_serving import Settings, seeded
from hf_text import pad
from light_languages import WRITTEN, Languages
from light_outputs import written
from light_serving import Outputs
from transformers.modeling_outputs import BaseModelOutput

#: Request parameters that are no arguments of `generate`.
OTHERS = ("skip_special_tokens", "truncation", "src_lang", "tgt_lang", "generate_kwargs", "stop_sequence")


class Writer:
    """The model of a checkpoint and its tokenizer."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.languages = Languages(settings.values)
        self.tokenizer = load_tokenizer(settings)
        self.model = transformers.AutoModelForSeq2SeqLM.from_pretrained(
            settings.checkpoint,
            dtype=settings.values.get("dtype", "auto"),
            trust_remote_code=settings.values.get("trust_remote_code") == "true",
        )
        self.model.to(settings.device).eval()
        self.model.generation_config.update(**json.loads(settings.values.get("generation", "{}")))
        self.can_pad = self.tokenizer.pad_token_id is not None

    def write(
        self,
        encodings: list[dict[str, torch.Tensor]],
        clients: list[Cancelled],
        parameters: dict[str, Any],
        seed: int | None,
        states: list[torch.Tensor] | None = None,
    ) -> list[torch.Tensor]:
        """The sequences [returned, tokens] written for each encoding, those of similar length together.

        `states` [tokens, size] of each encoding are what the encoder makes of it; without them it runs here.
        """
        options = self.options(parameters)
        lengths = [encoding["input_ids"].shape[1] for encoding in encodings]
        made: list[Any] = [None] * len(encodings)
        for group in generation_groups(lengths, self.settings, can_pad=self.can_pad, seed=seed):
            batch = pad([encodings[index] for index in group], self.tokenizer)
            inputs: dict[str, Any] = {name: value.to(self.model.device) for name, value in batch.items()}
            if states is not None:
                hidden = torch.nn.utils.rnn.pad_sequence(
                    [states[index] for index in group], batch_first=True, padding_side=self.tokenizer.padding_side
                )
                hidden = hidden.to(self.model.device, self.model.dtype)
                inputs["encoder_outputs"] = BaseModelOutput(last_hidden_state=hidden)
            gone = until_gone([clients[index] for index in group])
            with seeded(seed):
                sequences = self.model.generate(**inputs, **options, stopping_criteria=gone)
            for row, own in zip(group, sequences.unflatten(0, (len(group), -1)), strict=True):
                made[row] = own
        return made

    def options(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Arguments of `generate` for the parameters of a request."""
        options = {name: value for name, value in parameters.items() if name not in OTHERS and value is not None}
        options |= parameters.get("generate_kwargs") or {}
        for wanted, other in (("max_new_tokens", "max_length"), ("min_new_tokens", "min_length")):
            if options.get(wanted) is not None:
                options.setdefault(other, None)  # the checkpoint may count otherwise
        if parameters.get("stop_sequence"):
            options |= {"stop_strings": parameters["stop_sequence"], "tokenizer": self.tokenizer}
        self.languages.check(parameters.get("src_lang"), parameters.get("tgt_lang"))
        first = self.languages.first_token(parameters.get("tgt_lang"))
        return options if first is None else {**options, "forced_bos_token_id": first}

    def own_tokens(self, sequence: torch.Tensor) -> torch.Tensor:
        """A sequence without the padding that longer ones of its batch made of its end."""
        padding, config = self.tokenizer.pad_token_id, self.model.generation_config
        if padding is None:
            return sequence
        ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
        real = (sequence[1:] != padding).nonzero()  # the token that every sequence begins with may be the padding's
        # Where padding looks like the end of a text, the first of it was that end.
        last = int(real[-1]) + 1 if len(real) else 0
        return sequence[: last + 1 + (padding in ends)]

    def texts(self, sequences: torch.Tensor, parameters: dict[str, Any]) -> Outputs:
        """The outputs of the task."""
        skip = parameters.get("skip_special_tokens")
        texts = [
            self.tokenizer.decode(self.own_tokens(each), skip_special_tokens=skip is None or skip) for each in sequences
        ]
        return written(WRITTEN[self.settings.task], texts)


class Reader:
    """The tokenizer of a checkpoint: texts to what a model reads, each in its language."""

    def __init__(self, tokenizer: Any, languages: Languages) -> None:
        self.tokenizer = tokenizer
        self.languages = languages
        self.own_language = getattr(tokenizer, "src_lang", None)

    def encode(
        self, texts: list[str], src_lang: str | None, tgt_lang: str | None, truncation: bool | None
    ) -> list[dict[str, torch.Tensor]]:
        """One encoding a text, of tensors [1, tokens]."""
        before = self.languages.before(src_lang, tgt_lang)
        if self.languages.tokens:
            self.tokenizer.src_lang = src_lang or self.own_language
        made = [self.tokenizer(before + text, truncation=bool(truncation), return_tensors="pt") for text in texts]
        return [{name: each[name] for name in ("input_ids", "attention_mask")} for each in made]


def load_tokenizer(settings: Settings) -> Any:
    trusted = settings.values.get("trust_remote_code") == "true"
    return transformers.AutoTokenizer.from_pretrained(settings.checkpoint, trust_remote_code=trusted)
