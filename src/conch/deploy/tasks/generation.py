"""Tasks that write text, at once or piece by piece."""

from __future__ import annotations

import msgspec

from conch.deploy.tasks.spec import AUDIO, IMAGE, JSON_OUTPUT, ParameterSpec, Task, TensorSpec, text_input
from conch.deploy.tasks.writing import CHOICE, COURSE, GENERATE_KWARGS, SKIP_SPECIAL_TOKENS
from conch.tensor import DataType

_LIBRARIES = (
    "light_serving.py",
    "light_inputs.py",
    "light_outputs.py",
    "light_generation.py",
    "hf_serving.py",
    "hf_text.py",
    "hf_generation.py",
    "hf_grammar.py",
    "hf_likelihoods.py",
    "hf_prompts.py",
    "hf_writing.py",
)
_PROMPT = text_input("text", "the prompt, used as it is; this or `messages`", optional=True)
_MESSAGES = text_input("messages", 'a conversation as JSON: [{"role": "user", "content": "Hello"}]', optional=True)
_IMAGES = msgspec.structs.replace(
    IMAGE, dims=(-1,), doc="encoded images, in the order they are mentioned", optional=True
)
_SOUNDS = msgspec.structs.replace(
    AUDIO, dims=(-1,), doc="encoded sounds, in the order they are mentioned", optional=True
)
_GENERATED = TensorSpec("generated_text", DataType.BYTES, (-1,), "the text, one entry a returned sequence")

#: What text-generation tells beside the texts.
ANSWER_OUTPUTS = (
    TensorSpec("finish_reason", DataType.BYTES, (-1,), 'why each text ended: "stop" or "length"'),
    TensorSpec("prompt_tokens", DataType.INT32, (1,), "tokens of the prompt"),
    TensorSpec("completion_tokens", DataType.INT32, (-1,), "tokens of each text"),
    TensorSpec(
        "logprobs",
        DataType.BYTES,
        (-1,),
        "with the request parameter `logprobs`, a list for each text, as JSON: of each token `token`, `logprob`, "
        "`bytes` and `top_logprobs`; else empty",
    ),
)

_PARAMETERS = (
    *CHOICE,
    *COURSE,
    ParameterSpec("return_full_text", "bool", "put the prompt before the new text"),
    SKIP_SPECIAL_TOKENS,
)
#: What requests to text-generation may ask for beside that.
_TEXT_PARAMETERS = (
    ParameterSpec("truncation", "bool", "cut prompts that are too long"),
    ParameterSpec("tools", "str", "functions that the model may call: a JSON list for the chat template"),
    ParameterSpec("logprobs", "int", "tell how likely each token was, and that many alternatives; up to 20"),
    ParameterSpec("json_schema", "str", "write nothing but JSON of this schema; needs the package llguidance"),
)
#: Parameters of which several texts come, or none before the end.
_NOT_STREAMED = ("num_beams", "num_return_sequences", "return_full_text")

TEXT_GENERATION = Task(
    name="text-generation",
    pipeline="text-generation",
    summary="continue a prompt, or answer a conversation",
    template="generation.py",
    libraries=_LIBRARIES,
    inputs=(_PROMPT, _MESSAGES),
    outputs=(_GENERATED, *ANSWER_OUTPUTS, JSON_OUTPUT),
    parameters=(*_PARAMETERS, *_TEXT_PARAMETERS),
    max_batch_size=8,
    packages=("pillow",),
)

IMAGE_TEXT_TO_TEXT = Task(
    name="image-text-to-text",
    pipeline="image-text-to-text",
    summary="answer questions about images, or describe them",
    template="generation.py",
    libraries=_LIBRARIES,
    inputs=(_PROMPT, _MESSAGES, _IMAGES),
    outputs=(_GENERATED, JSON_OUTPUT),
    parameters=(*_PARAMETERS, GENERATE_KWARGS),
    max_batch_size=8,
    packages=("pillow",),
)

ANY_TO_ANY = Task(
    name="any-to-any",
    pipeline="any-to-any",
    summary="answer questions about images and sounds",
    template="generation.py",
    libraries=_LIBRARIES,
    inputs=(_PROMPT, _MESSAGES, _IMAGES, _SOUNDS),
    outputs=(_GENERATED, JSON_OUTPUT),
    parameters=(*_PARAMETERS, GENERATE_KWARGS),
    max_batch_size=8,
    packages=("pillow", "soundfile", "soxr"),
)

#: How `--stream` serves text-generation: decoupled, a response for each piece of the text.
STREAMED_TEXT_GENERATION = msgspec.structs.replace(
    TEXT_GENERATION,
    summary="continue a prompt, or answer a conversation, piece by piece",
    template="generation_stream.py",
    libraries=(*(each for each in _LIBRARIES if each != "light_outputs.py"), "hf_streaming.py"),
    outputs=(
        TensorSpec("text", DataType.BYTES, (1,), "a piece of the new text"),
        TensorSpec("finish_reason", DataType.BYTES, (1,), 'of the last response "stop" or "length", else ""'),
        TensorSpec("prompt_tokens", DataType.INT32, (1,), "tokens of the prompt"),
        TensorSpec("completion_tokens", DataType.INT32, (1,), "tokens written so far"),
        TensorSpec(
            "logprobs",
            DataType.BYTES,
            (1,),
            "with the request parameter `logprobs`, of each token of the piece `token`, `logprob`, `bytes` and "
            "`top_logprobs`, as a JSON list; else empty",
        ),
    ),
    parameters=(
        *(each for each in _PARAMETERS if each.name not in _NOT_STREAMED),
        *_TEXT_PARAMETERS,
        ParameterSpec("presence_penalty", "float", "taken off the logits of tokens that were written"),
        ParameterSpec("frequency_penalty", "float", "taken off the logits of tokens for each time they were written"),
        ParameterSpec("ignore_eos", "bool", "do not end before `max_new_tokens`"),
    ),
    max_batch_size=0,
)

TASKS = (TEXT_GENERATION, IMAGE_TEXT_TO_TEXT, ANY_TO_ANY)
