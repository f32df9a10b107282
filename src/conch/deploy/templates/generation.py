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

import json
from typing import Any

from hf_media import all_images, one_audio
from hf_serving import Outputs, Row, Settings, answer, load_pipeline, to_json
from hf_text import length_groups, one_text

# Arguments of `generate` that pipelines of several modalities want in `generate_kwargs`.
GENERATE_PARAMETERS = ("do_sample", "temperature", "top_p", "top_k", "num_beams", "num_return_sequences")
GENERATE_PARAMETERS += ("repetition_penalty", "min_new_tokens")


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
        """`text` or `messages`, with `images` and `sounds` where there are any."""
        if ("text" in row) == ("messages" in row):
            raise ValueError("expected one of the inputs `text` and `messages`")
        images = all_images(row["image"]) if "image" in row else []
        sounds = []
        if "audio" in row:
            rate = self.pipe.processor.feature_extractor.sampling_rate
            encoded = row["audio"].dtype == object
            sounds = [one_audio({**row, "audio": one}, rate) for one in (row["audio"] if encoded else [row["audio"]])]
        if "text" in row:
            return {"text": one_text(row["text"]), "images": images, "sounds": sounds}
        return {"messages": fill_messages(json.loads(one_text(row["messages"])), images, sounds)}

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
                results[index] = outputs(records)
        return results

    def generate_multimodal(self, samples: list[dict[str, Any]], **parameters: Any) -> list[Outputs]:
        generate = {name: parameters.pop(name) for name in GENERATE_PARAMETERS if name in parameters}
        if generate:
            parameters["generate_kwargs"] = {**parameters.get("generate_kwargs", {}), **generate}
        results = []
        for sample in samples:
            if "messages" in sample:
                records = self.pipe(text=sample["messages"], **parameters)
            else:
                media = {"images": sample["images"] or None}
                if self.settings.task == "any-to-any":
                    media["audio"] = sample["sounds"] or None
                media = {name: each[0] if each and len(each) == 1 else each for name, each in media.items()}
                records = self.pipe(text=sample["text"], **media, **parameters)
            results.append(outputs(records))
        return results


def fill_messages(messages: Any, images: list[Any], sounds: list[Any]) -> list[dict[str, Any]]:
    """The conversation with the request's pictures and sounds put where it mentions them, in order."""
    if not isinstance(messages, list) or not all(isinstance(each, dict) and "role" in each for each in messages):
        raise ValueError('`messages` should be a JSON list of {"role": ..., "content": ...}')
    media = {"image": list(images), "audio": list(sounds)}
    for message in messages:
        for part in message["content"] if isinstance(message.get("content"), list) else []:
            kind = part.get("type")
            if part.keys() - {"type", "text"} or kind not in ("text", *media):  # no files and addresses of the client's
                raise ValueError(
                    f'a content part should be {{"type": "text", "text": ...}} or a bare image or audio: {part}'
                )
            if kind != "text":
                if not media[kind]:
                    raise ValueError(f"`messages` mentions more of type {kind} than the input `{kind}` holds")
                part[kind] = media[kind].pop(0)
    if any(media.values()):
        raise ValueError("the inputs `image` and `audio` hold more than `messages` mentions")
    return messages


def outputs(records: list[dict[str, Any]]) -> Outputs:
    texts = [record["generated_text"] for record in records]
    answers = [text if isinstance(text, str) else text[-1]["content"] for text in texts]
    return {"generated_text": answers, "json": to_json(records)}
