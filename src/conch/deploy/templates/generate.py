"""Run a model that generates: tensors of its inputs -> what the task needs of it.

Of these outputs, those are made that config.pbtxt names:
    generated    what the pipeline's forward made, as JSON for its postprocess (with the input `context`)
    new_tokens   [sequences, tokens] without the prompt, -1 is padding (text-generation)
    finish_reason, prompt_tokens, completion_tokens, logprobs   of each sequence (text-generation)
    spectrogram  [frames, bands] of a voice that another part plays (text-to-audio)
    the outputs of the task, by the pipeline's own postprocess

The request parameters are those of the whole task; requests that sent equal ones are generated together where the model
can be batched.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
import torch
from hf_encoder import KnownStates
from hf_generation import Cancelled, until_gone
from hf_media import forward_batches
from hf_prompts import chat_class
from hf_serving import Outputs, Row, Settings, answer, check_length, load_pipeline, seeded, stage_parameters
from hf_writing import TextWriter, Wishes, Written, answer_outputs
from light_generation import fill_messages, pipeline_parameters
from light_inputs import all_images, all_sounds, one_text
from light_outputs import RESULTS
from light_rows import prepare
from pipeline_shell import join_tensors, split_tensors
from torch.nn.functional import pad
from transformers.pipelines.base import ChunkPipeline


class Sample(NamedTuple):
    parts: list[Any]  # what the preprocess made, one entry unless its pipeline cuts
    cancelled: Cancelled
    states: list[torch.Tensor]  # what an engine made of the rows of each part; empty where the model's encoder runs


class LaterImage:
    """An image of a conversation, decoded if the answer shows it."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def save(self, buffer: Any, **options: Any) -> None:
        (image,) = all_images(np.array([self.file, None], object)[:-1] if isinstance(self.file, bytes) else self.file)
        image.save(buffer, **options)


class LaterSound:
    """A sound of a conversation, decoded if the answer shows it."""

    def __init__(self, row: Row, number: int, sampling_rate: int) -> None:
        self.row, self.number, self.sampling_rate = row, number, sampling_rate

    def tolist(self) -> list[float]:
        return all_sounds(self.row, self.sampling_rate)[self.number].tolist()


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.settings.fill["new_tokens"] = -1
        prepare(self.settings)
        self.pipe = load_pipeline(self.settings, plays="spectrogram" not in self.settings.output_types)
        self.cuts = isinstance(self.pipe, ChunkPipeline)
        self.pad_to = int(self.settings.values.get("pad_to", 0))  # tokens of each text, of a model that wants as many
        self.can_pad = self.pipe.tokenizer is not None and self.pipe.tokenizer.pad_token_id is not None
        known = "encoder_hidden_states" in self.settings.input_names
        module = self.settings.values.get("encoder", "").split()  # its name in the model, and what it reads
        self.encoder = KnownStates(self.pipe.model, *module) if known else None
        self.writer = TextWriter(self.pipe, self.settings) if self.settings.task == "text-generation" else None
        self.decode_parts = {
            "text-generation": self.decode_tokens,
            "automatic-speech-recognition": self.decode_sound,
            "image-text-to-text": self.decode_image_prompt,
            "any-to-any": self.decode_sound_prompt,
            "text-to-audio": self.decode_text,
            "document-question-answering": self.decode_page,
        }.get(self.settings.task)

    def execute(self, requests: list[Any]) -> list[Any]:
        return answer(requests, self.settings, self.decode, self.infer, cancellable=True)

    def decode(self, row: Row, cancelled: Cancelled) -> Sample:
        states = row.pop("encoder_hidden_states", None)
        speaker = row.pop("speaker_embeddings", None)
        parts = self.decode_context(row) if "context" in row else self.decode_parts(row)
        if speaker is not None:  # of models that have positions for so many letters alone
            check_length(self.pipe.model, parts[0]["input_ids"].shape[1])
            parts[0]["speaker_embeddings"] = torch.tensor(speaker, dtype=self.pipe.model.dtype)[None]
        return Sample(parts, cancelled, [] if states is None else self.decode_states(states, parts))

    def decode_states(self, states: np.ndarray, parts: list[Any]) -> list[torch.Tensor]:
        """The states of the rows of each part: of the one part there is, or a row a part."""
        tensor = torch.from_numpy(states).to(self.pipe.dtype)
        rows = tensor if tensor.dim() > 2 else tensor[None]
        if self.settings.task != "image-text-to-text":
            return list(rows[: len(parts), None])
        return [rows[: len(part.get("pixel_values", ()))] for part in parts]

    def decode_tokens(self, row: Row) -> list[Any]:
        """A prompt without its padding."""
        return [{**part, "prompt_text": ""} for part in self.decode_text(row)]

    def decode_text(self, row: Row) -> list[Any]:
        """A text without its padding."""
        real = row["attention_mask"].astype(bool)
        part = {name: torch.from_numpy(value[real])[None] for name, value in row.items()}
        missing = max(0, self.pad_to - int(real.sum()))
        if not missing:
            return [part]
        fill = {"input_ids": self.pipe.tokenizer.pad_token_id}
        return [{name: pad(value, (0, missing), value=fill.get(name, 0)) for name, value in part.items()}]

    def decode_page(self, row: Row) -> list[Any]:
        """A page, and what its answer begins with; -1 is padding."""
        prompt = row["decoder_input_ids"]
        return [
            {
                "inputs": torch.from_numpy(row["inputs"].copy())[None].to(self.pipe.dtype),
                "decoder_input_ids": torch.from_numpy(prompt[prompt >= 0])[None],
                "return_dict_in_generate": True,
                "is_last": True,
            }
        ]

    def decode_image_prompt(self, row: Row) -> list[Any]:
        """A prompt about images without its padding, and the prompt as the pipeline's postprocess returns it."""
        real, count = row["attention_mask"].astype(bool), int(row["images"][0])
        part: dict[str, Any] = {
            name: torch.from_numpy(row[name][real])[None] for name in ("input_ids", "attention_mask")
        }
        if count:
            part["pixel_values"] = torch.from_numpy(row["pixel_values"][:count].copy()).to(self.pipe.dtype)
        if "text" in row:
            return [{**part, "text": one_text(row["text"])}]
        files = row["image"][:count] if count else ()
        messages = fill_messages(json.loads(one_text(row["messages"])), [LaterImage(file) for file in files], [])
        return [{**part, "text": chat_class(self.pipe)(messages)}]

    def decode_sound_prompt(self, row: Row) -> list[Any]:
        """A prompt about sounds without its padding, and the prompt as the pipeline's postprocess returns it."""
        real, count = row["attention_mask"].astype(bool), int(row["sounds"][0])
        part: dict[str, Any] = {
            name: torch.from_numpy(row[name][real])[None] for name in ("input_ids", "attention_mask")
        }
        if count:
            part["input_features"] = torch.from_numpy(row["input_features"][:count].copy()).to(self.pipe.dtype)
            part["feature_attention_mask"] = torch.from_numpy(row["feature_attention_mask"][:count].copy())
        if "text" in row:
            return [{**part, "text": one_text(row["text"])}]
        heard = {name: row[name] for name in ("audio", "sampling_rate") if name in row}
        rate = self.pipe.processor.feature_extractor.sampling_rate
        sounds = [LaterSound(heard, number, rate) for number in range(count)]
        messages = fill_messages(json.loads(one_text(row["messages"])), [], sounds)
        return [{**part, "text": chat_class(self.pipe)(messages)}]

    def decode_sound(self, row: Row) -> list[Any]:
        """The parts of a sound, each without its padding; a stride of 0 is none."""
        found = []
        for number, length in enumerate(row["lengths"].tolist()):
            if not length:  # another row of the request has more parts
                continue
            part: dict[str, Any] = {"is_last": True}
            for name in row.keys() - {"lengths", "strides", "rest"}:
                array = row[name][number]
                if "rest" in row and name == "input_features":
                    array = np.concatenate([array, row["rest"][number]], axis=-1)
                value = torch.from_numpy(array[..., :length].copy())[None]
                part[name] = value.to(self.pipe.dtype) if value.is_floating_point() else value
            if row["strides"][number][0]:
                part["stride"] = tuple(row["strides"][number].tolist())
            found.append(part)
        for part in found[:-1]:
            part["is_last"] = False
        return found

    def decode_context(self, row: Row) -> list[Any]:
        """What the pipeline's own preprocess made."""
        tensors = {name: value for name, value in row.items() if name != "context"}
        context = one_text(row["context"])
        if not self.cuts:
            return [join_tensors(self.pipe, context, tensors)]
        contexts = json.loads(context)
        rows = [tensors] if self.settings.values.get("parts") != "true" else [
            {name: value[number] for name, value in tensors.items()} for number in range(len(contexts))
        ]  # fmt: skip
        return [join_tensors(self.pipe, each, own) for each, own in zip(contexts, rows, strict=True)]

    def infer(
        self,
        samples: list[Sample],
        seed: int | None = None,
        logprobs: int | None = None,
        json_schema: str | None = None,
        **parameters: Any,
    ) -> list[Outputs]:
        parameters = pipeline_parameters(self.settings.task, parameters)
        _, forward, postprocess = stage_parameters(self.pipe, parameters)
        parts = [part for sample in samples for part in sample.parts]
        clients = [sample.cancelled for sample in samples for _ in sample.parts]
        if self.encoder:
            self.encoder.remember(parts, [state for sample in samples for state in sample.states])
        if self.writer is not None:
            wishes = Wishes(seed, logprobs, json_schema)
            written = self.writer.write(parts, clients, forward, wishes)
            return [self.text_outputs(part, *each) for part, each in zip(parts, written, strict=True)]
        if self.settings.task == "automatic-speech-recognition":
            made = iter(self.transcribe(parts, clients, forward, parameters))
        elif self.settings.task == "document-question-answering":
            made = iter(self.read_documents(parts, clients, forward))
        elif self.settings.task == "text-to-audio":
            made = iter(self.make_sounds(parts, forward, seed))
        else:
            made = iter(self.generate_each(parts, clients, forward, seed))
        return [self.outputs([next(made) for _ in sample.parts], postprocess) for sample in samples]

    def transcribe(
        self, parts: list[Any], clients: list[Cancelled], forward: dict[str, Any], parameters: dict[str, Any]
    ) -> list[Any]:
        """What the pipeline's forward makes of each sound."""
        # The pipeline finds the language of the first sound of a batch only.
        largest = 1 if parameters.get("return_language") else len(parts)
        # Sounds share a batch in an order of their own: a batch goes on until all of its clients are gone.
        gone = until_gone([lambda: all(cancelled() for cancelled in clients)])
        return forward_batches(self.pipe, parts, largest=largest, stopping_criteria=gone, **forward)

    def read_documents(self, parts: list[Any], clients: list[Cancelled], forward: dict[str, Any]) -> list[Any]:
        """What the pipeline's forward makes of each page, one after the other: of it, what the postprocess reads."""
        made = [
            # The attentions that the pipeline asks for are not among what its postprocess reads.
            self.pipe.forward(
                {**part, "output_attentions": False}, stopping_criteria=until_gone([cancelled]), **forward
            )
            for part, cancelled in zip(parts, clients, strict=True)
        ]
        return [{"sequences": output["sequences"]} for output in made]

    def make_sounds(self, parts: list[Any], forward: dict[str, Any], seed: int | None) -> list[Any]:
        """What the pipeline's forward makes of each text, one after the other: each draws from the seed anew."""
        made = []
        for part in parts:
            with seeded(seed):
                made.append(self.pipe.forward(part, **forward))
        return made

    def generate_each(
        self, parts: list[Any], clients: list[Cancelled], forward: dict[str, Any], seed: int | None
    ) -> list[Any]:
        """What the pipeline's forward makes of each sample; those whose tensors have equal sizes together."""
        alike: dict[Any, list[int]] = {}
        for index, part in enumerate(parts):
            alike.setdefault(self.batch_key(part, index, seed), []).append(index)
        made: list[Any] = [None] * len(parts)
        for group in alike.values():
            gone = until_gone([clients[index] for index in group])
            options = {
                **forward,
                "generate_kwargs": {**(forward.get("generate_kwargs") or {}), "stopping_criteria": gone},
            }
            with seeded(seed):
                if len(group) == 1:
                    made[group[0]] = self.pipe.forward(parts[group[0]], **options)
                    continue
                batch = {name: joined([parts[index][name] for index in group]) for name in parts[group[0]]}
                output = self.pipe.forward(batch, **options)
            for row, index in enumerate(group):
                made[index] = {
                    "generated_sequence": output["generated_sequence"][row : row + 1],
                    "prompt_text": output["prompt_text"][row],
                    "input_ids": output["input_ids"][row : row + 1],
                }
        return made

    def batch_key(self, part: Any, index: int, seed: int | None) -> Any:
        """Equal for samples that may share a batch: those that came as tensors of their own, of one size."""
        if seed is not None or not self.can_pad or "generated" in self.settings.output_types:
            return index
        return tuple((name, tuple(value.shape)) for name, value in part.items() if isinstance(value, torch.Tensor))

    def outputs(self, parts: list[dict[str, Any]], postprocess: dict[str, Any]) -> Outputs:
        if "generated" in self.settings.output_types:
            return {"generated": [json.dumps([split_tensors(part, {})[1] for part in parts])]}
        if "spectrogram" in self.settings.output_types:
            return {"spectrogram": parts[0]}
        return RESULTS[self.settings.task](self.pipe.postprocess(parts if self.cuts else parts[0], **postprocess))

    def text_outputs(self, part: dict[str, Any], made: dict[str, Any], sequences: list[Written]) -> Outputs:
        """What is known of the sequences of one prompt."""
        if "generated" in self.settings.output_types:
            own: Outputs = {"generated": [json.dumps([split_tensors(made, {})[1]])]}
        else:
            longest = max(len(each.tokens) for each in sequences)
            own = {"new_tokens": [[*each.tokens, *[-1] * (longest - len(each.tokens))] for each in sequences]}
        return own | answer_outputs(part["input_ids"].shape[1], sequences)


def joined(values: list[Any]) -> Any:
    """Tensors as one batch, other values as a list."""
    return torch.cat(values) if isinstance(values[0], torch.Tensor) else values
