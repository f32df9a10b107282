"""What a transformers pipeline does before its network: inputs of the task -> tensors of the network, `context`.

The tensors that config.pbtxt names are outputs of this model; all else that the pipeline hands on lies in `context`. A
pipeline that cuts its input into parts (long sounds, several labels) makes tensors [parts, ..], padded to the largest
part, and a `context` that knows the size of each; the setting `parts` is true for a model that takes them. Otherwise
the network takes one part at a time, and those behind the first are set apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hf_prompts import chat_class, refusals
from hf_serving import Outputs, Row, Settings, answer, stage_parameters
from light_generation import decode_prompt, media_arguments, pipeline_parameters
from light_inputs import (
    image_pair,
    labelled_image,
    one_audio,
    one_document,
    one_image,
    one_table,
    one_text,
    one_video,
    video_file,
)
from light_rows import APART, FURTHER, prepare
from light_serving import as_array, stack
from pipeline_shell import load_shell, pandas_table, split_tensors
from transformers.pipelines.base import ChunkPipeline

PROMPTS = ("text-generation", "image-text-to-text", "any-to-any")


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        prepare(self.settings)
        self.pipe = load_shell(self.settings)
        self.decode = self.decoder()
        self.cuts = isinstance(self.pipe, ChunkPipeline)
        self.takes_parts = self.settings.values.get("parts") == "true"
        tokenizer = self.pipe.tokenizer
        self.settings.fill["input_ids"] = getattr(tokenizer, "pad_token_id", None) or 0

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer)

    def decoder(self) -> Callable[[Row], Any]:
        """What makes a sample as the pipeline takes it of the inputs."""
        task = self.settings.task
        decoders = {
            "video-classification": one_video,
            "keypoint-matching": lambda row: image_pair(row["image"]),
            "text-classification": decode_text,
            "audio-classification": self.decode_sound,
            "automatic-speech-recognition": self.decode_sound,
            "zero-shot-object-detection": decode_labelled_image,
            "document-question-answering": one_document,
            "table-question-answering": decode_table,
            **dict.fromkeys(PROMPTS, self.decode_prompt),
        }
        reads_images = self.pipe._load_image_processor is not False
        return decoders.get(task, (lambda row: one_image(row["image"])) if reads_images else decode_text)

    def decode_sound(self, row: Row) -> Any:
        return one_audio(row, self.pipe.feature_extractor.sampling_rate)

    def decode_prompt(self, row: Row) -> Any:
        prompt = decode_prompt(row, self.pipe.processor.feature_extractor.sampling_rate if "audio" in row else 0)
        if "messages" in prompt:
            return chat_class(self.pipe)(prompt["messages"])
        if self.settings.task == "text-generation":
            return prompt["text"]
        media = media_arguments(self.settings.task, prompt)
        return {"text": prompt["text"], **media} if media["images"] or "audio" in media else prompt["text"]

    def infer(self, samples: list[Any], **parameters: Any) -> list[Outputs]:
        options, _, _ = stage_parameters(self.pipe, pipeline_parameters(self.settings.task, parameters))
        return [self.preprocess(sample, options) for sample in samples]

    def preprocess(self, sample: Any, options: dict[str, Any]) -> Outputs:
        if isinstance(sample, bytes):
            with video_file(sample) as path:
                encoded = self.pipe.preprocess(path, **options)
        else:
            with refusals():
                encoded = self.pipe.preprocess(sample, **options)
        if not self.cuts:
            tensors, context = split_tensors(encoded, self.settings.output_types)
            return {**tensors, "context": [context]}
        parts = [split_tensors(part, self.settings.output_types) for part in encoded]
        if len(parts) > 1 and not self.takes_parts and APART not in self.settings.output_types:
            raise ValueError(f"the input is cut into {len(parts)} parts; this model takes one: send a smaller input")
        tensors = {name: self.join([part[name] for part, _ in parts], name) for name in parts[0][0]}
        further = [] if self.takes_parts else [part for part, _ in parts[1:]]
        return {**tensors, FURTHER: further, "context": [json.dumps([context for _, context in parts])]}

    def join(self, parts: list[Any], name: str) -> Any:
        """The tensors of the parts as one, or the only part's."""
        arrays = [as_array(part, self.settings.output_types[name]) for part in parts]
        return stack(arrays, self.settings.fill.get(name)) if self.takes_parts else arrays[0]


def decode_text(row: Row) -> str | dict[str, str]:
    text = one_text(row["text"])
    return {"text": text, "text_pair": one_text(row["text_pair"])} if "text_pair" in row else text


def decode_table(row: Row) -> dict[str, Any]:
    question = one_table(row)
    return {**question, "table": pandas_table(question["table"])}


def decode_labelled_image(row: Row) -> dict[str, Any]:
    image, labels = labelled_image(row)
    return {"image": image, "candidate_labels": labels}
