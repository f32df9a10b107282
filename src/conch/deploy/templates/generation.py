"""Write text: continue a prompt, or answer a conversation, with pictures and sounds where the model knows them.

text-generation: `text` or `messages` -> `generated_text`, `finish_reason`, `completion_tokens`, `logprobs`, one entry a
    returned sequence, and `prompt_tokens`
image-text-to-text: the same with `image` [n]
any-to-any: the same with `image` [n] and `audio` [n]

`messages` is a conversation as JSON, [{"role": "user", "content": "..."}]; a content of
[{"type": "image"}, {"type": "text", "text": "..."}] takes the next picture of `image`, {"type": "audio"} the next
sound of `audio`. `text` is used as it is. `generated_text` is what the pipeline returns: the prompt and its
continuation (the request parameter return_full_text=false leaves the prompt out); for a conversation, the answer alone.
`finish_reason` is "stop" (the model ended, or a text of `stop_sequence` came) or "length".
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hf_generation import Cancelled, until_gone
from hf_prompts import encode_prompt, refusals
from hf_serving import Outputs, Row, Settings, answer, load_pipeline, seeded, stage_parameters
from hf_writing import TextWriter, Wishes, answer_outputs
from light_generation import decode_prompt, media_arguments, pipeline_parameters
from light_outputs import generated


class Sample(NamedTuple):
    prompt: dict[str, Any]
    cancelled: Cancelled


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.pipe = load_pipeline(self.settings)
        if self.settings.task == "text-generation":
            self.infer, self.writer = self.generate_texts, TextWriter(self.pipe, self.settings)
        else:
            self.infer = self.generate_multimodal

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer, cancellable=True)

    def decode(self, row: Row, cancelled: Cancelled) -> Sample:
        rate = self.pipe.processor.feature_extractor.sampling_rate if "audio" in row else 0
        return Sample(decode_prompt(row, rate), cancelled)

    def generate_texts(
        self,
        samples: list[Sample],
        seed: int | None = None,
        logprobs: int | None = None,
        json_schema: str | None = None,
        **parameters: Any,
    ) -> list[Outputs]:
        stages = stage_parameters(self.pipe, pipeline_parameters(self.settings.task, parameters))
        preprocess, forward, postprocess = stages
        parts = [encode_prompt(self.pipe, sample.prompt, preprocess) for sample in samples]
        clients = [sample.cancelled for sample in samples]
        made = self.writer.write(parts, clients, forward, Wishes(seed, logprobs, json_schema))
        return [
            generated(self.pipe.postprocess(output, **postprocess))
            | answer_outputs(part["input_ids"].shape[1], sequences)
            for part, (output, sequences) in zip(parts, made, strict=True)
        ]

    def generate_multimodal(self, samples: list[Sample], seed: int | None = None, **parameters: Any) -> list[Outputs]:
        parameters = pipeline_parameters(self.settings.task, parameters)
        results = []
        for prompt, cancelled in samples:
            generate = {**parameters.get("generate_kwargs", {}), "stopping_criteria": until_gone([cancelled])}
            options = {**parameters, "generate_kwargs": generate}
            media = {} if "messages" in prompt else media_arguments(self.settings.task, prompt)
            with seeded(seed), refusals():
                records = self.pipe(text=prompt.get("messages") or prompt["text"], **media, **options)
            results.append(generated(records))
        return results
