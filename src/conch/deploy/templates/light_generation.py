"""Requests to models that write text: prompts, conversations and parameters."""

from __future__ import annotations

import json
from typing import Any

from light_inputs import all_images, all_sounds, one_text
from light_serving import Row

# Arguments of `generate` that the pipelines of these tasks want in `generate_kwargs`.
_SAMPLING = ("do_sample", "temperature", "top_p", "top_k", "num_beams", "num_return_sequences")
_SAMPLING += ("repetition_penalty", "min_new_tokens")
GENERATE_PARAMETERS = {
    "image-text-to-text": _SAMPLING,
    "any-to-any": _SAMPLING,
    "automatic-speech-recognition": ("language", "task", "max_new_tokens", "num_beams"),
}


#: Request parameters that the pipeline of text-generation does not know.
BESIDE_PIPELINE = ("logprobs", "json_schema")


def pipeline_parameters(task: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """The request parameters as the task's pipeline wants them."""
    if task == "text-generation":
        kept = {name: value for name, value in parameters.items() if name not in BESIDE_PIPELINE}
        return {**kept, "tools": read_tools(kept["tools"])} if "tools" in kept else kept
    if task == "text-to-audio":
        kept = {name: value for name, value in parameters.items() if name == "generate_kwargs"}
        spoken = {name: value for name, value in parameters.items() if name == "speaker_id"}
        return {**kept, "forward_params": spoken}
    if task not in GENERATE_PARAMETERS:
        return parameters
    packed = GENERATE_PARAMETERS[task]
    generate = {name: value for name, value in parameters.items() if name in packed}
    if not generate and "stop_sequence" not in parameters:
        return parameters
    others = {name: value for name, value in parameters.items() if name not in packed}
    return {**others, "generate_kwargs": {**others.get("generate_kwargs", {}), **generate}}


def read_tools(text: str | None) -> list[dict[str, Any]] | None:
    """The functions a model may call, from JSON; None without any.

    Raises:
        ValueError: it is no list of objects.
    """
    try:
        tools = json.loads(text) if text else None
    except ValueError as error:
        raise ValueError(f"request parameter 'tools' is no JSON: {error}") from error
    if tools and not (isinstance(tools, list) and all(isinstance(each, dict) for each in tools)):
        raise ValueError("request parameter 'tools' should be a JSON list of objects")
    return tools or None


def decode_prompt(row: Row, sampling_rate: int) -> dict[str, Any]:
    """`text` with `images` and `sounds`, or `messages` that hold them; sounds at `sampling_rate`."""
    check_one_prompt(row)
    images = all_images(row["image"]) if "image" in row else []
    sounds = all_sounds(row, sampling_rate)
    if "text" in row:
        return {"text": one_text(row["text"]), "images": images, "sounds": sounds}
    return {"messages": fill_messages(json.loads(one_text(row["messages"])), images, sounds)}


def check_one_prompt(row: Row) -> None:
    """Raise ValueError unless a request brings a text or a conversation, not both."""
    if ("text" in row) == ("messages" in row):
        raise ValueError("expected one of the inputs `text` and `messages`")


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


def media_arguments(task: str, prompt: dict[str, Any]) -> dict[str, Any]:
    """The pictures and sounds beside a text, as the task's pipeline takes them; a lone one is no list."""
    media = {"images": prompt["images"] or None}
    if task == "any-to-any":
        media["audio"] = prompt["sounds"] or None
    return {name: each[0] if each and len(each) == 1 else each for name, each in media.items()}
