"""Write text: continue a prompt, or answer a conversation, with pictures and sounds where the model knows them.

text-generation: `text` or `messages` -> `generated_text`, one entry a returned sequence
image-text-to-text: the same with `image` [n]
any-to-any: the same with `image` [n] and `audio` [n]

`messages` is a conversation as JSON, [{"role": "user", "content": "..."}]; a content of
[{"type": "image"}, {"type": "text", "text": "..."}] takes the next picture of `image`, {"type": "audio"} the next
sound of `audio`. `text` is used as it is. `generated_text` is what the pipeline returns: the prompt and its
continuation (the request parameter return_full_text=false leaves the prompt out); for a conversation, the answer alone.
"""

from __future__ import annotations

from typing import Any

from hf_serving import Outputs, Row, Settings, answer, load_pipeline
from hf_text import length_groups
from light_generation import decode_prompt, media_arguments, pipeline_parameters
from light_outputs import generated


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.pipe = load_pipeline(self.settings)
        self.infer = self.generate_texts if self.settings.task == "text-generation" else self.generate_multimodal
        tokenizer = self.pipe.tokenizer
        self.can_batch = tokenizer is not None and tokenizer.pad_token_id is not None

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer)

    def decode(self, row: Row) -> dict[str, Any]:
        return decode_prompt(row, self.pipe.processor.feature_extractor.sampling_rate if "audio" in row else 0)

    def generate_texts(self, samples: list[dict[str, Any]], **parameters: Any) -> list[Outputs]:
        prompts = [sample.get("messages") or sample["text"] for sample in samples]
        lengths = [len(self.pipe.tokenizer(str(prompt))["input_ids"]) for prompt in prompts]
        # Padding matters less than in an encoder: it costs in the prompt alone, while every new token gains.
        max_padding = 2 * self.settings.max_padding
        groups = length_groups(lengths, max_padding) if self.can_batch else [[index] for index in range(len(prompts))]
        results: list[Outputs] = [{} for _ in samples]
        for group in groups:
            batch = [prompts[index] for index in group]
            for index, records in zip(group, self.pipe(batch, batch_size=len(group), **parameters), strict=True):
                results[index] = generated(records)
        return results

    def generate_multimodal(self, samples: list[dict[str, Any]], **parameters: Any) -> list[Outputs]:
        parameters = pipeline_parameters(self.settings.task, parameters)
        results = []
        for sample in samples:
            if "messages" in sample:
                records = self.pipe(text=sample["messages"], **parameters)
            else:
                media = media_arguments(self.settings.task, sample)
                records = self.pipe(text=sample["text"], **media, **parameters)
            results.append(generated(records))
        return results
