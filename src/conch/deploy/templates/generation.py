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

from typing import Any, NamedTuple

from hf_generation import Cancelled, generation_groups, seeded, until_gone
from hf_serving import Outputs, Row, Settings, answer, load_pipeline
from light_generation import decode_prompt, media_arguments, pipeline_parameters
from light_outputs import generated


class Sample(NamedTuple):
    prompt: dict[str, Any]
    cancelled: Cancelled


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.pipe = load_pipeline(self.settings)
        self.infer = self.generate_texts if self.settings.task == "text-generation" else self.generate_multimodal
        tokenizer = self.pipe.tokenizer
        self.can_batch = tokenizer is not None and tokenizer.pad_token_id is not None

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer, cancellable=True)

    def decode(self, row: Row, cancelled: Cancelled) -> Sample:
        rate = self.pipe.processor.feature_extractor.sampling_rate if "audio" in row else 0
        return Sample(decode_prompt(row, rate), cancelled)

    def generate_texts(self, samples: list[Sample], seed: int | None = None, **parameters: Any) -> list[Outputs]:
        prompts = [sample.prompt.get("messages") or sample.prompt["text"] for sample in samples]
        lengths = [len(self.pipe.tokenizer(str(prompt))["input_ids"]) if prompt else 0 for prompt in prompts]
        results: list[Outputs] = [{} for _ in samples]
        for group in generation_groups(lengths, self.settings, can_pad=self.can_batch, seed=seed):
            batch = [prompts[index] for index in group]
            gone = until_gone([samples[index].cancelled for index in group])
            with seeded(seed):
                made = self.pipe(batch, batch_size=len(group), stopping_criteria=gone, **parameters)
            for index, records in zip(group, made, strict=True):
                results[index] = generated(records)
        return results

    def generate_multimodal(self, samples: list[Sample], seed: int | None = None, **parameters: Any) -> list[Outputs]:
        parameters = pipeline_parameters(self.settings.task, parameters)
        results = []
        for prompt, cancelled in samples:
            generate = {**parameters.get("generate_kwargs", {}), "stopping_criteria": until_gone([cancelled])}
            options = {**parameters, "generate_kwargs": generate}
            media = {} if "messages" in prompt else media_arguments(self.settings.task, prompt)
            with seeded(seed):
                records = self.pipe(text=prompt.get("messages") or prompt["text"], **media, **options)
            results.append(generated(records))
        return results
