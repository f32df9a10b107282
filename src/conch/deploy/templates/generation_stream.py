"""Write text piece by piece: continue a prompt, or answer a conversation, and send what is written while it is written.

text-generation: `text` or `messages` -> any number of responses of `text`, `finish_reason`, `prompt_tokens` and
`completion_tokens`

`messages` is a conversation as JSON, [{"role": "user", "content": "..."}]; the checkpoint's template makes a prompt
of it. `text` is used as it is. The pieces put together are the new text alone. Of the last response `finish_reason` is
"stop" (the model ended, or a text of `stop_sequence` came, which is left out) or "length"; of all others it is "".

An instance writes for one request after another, as its computing power would not grow by taking turns; `instances` of
them (config.pbtxt: instance_group) write for as many clients at once.
"""

from __future__ import annotations

from typing import Any

import torch
import triton_python_backend_utils as pb_utils
from hf_generation import seeded, until_gone
from hf_serving import Row, Settings, load_pipeline
from hf_streaming import EverOn, Penalties, Writer
from light_generation import decode_prompt
from light_serving import as_array, failure, rows

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.pipe = load_pipeline(self.settings)

    def execute(self, requests: list[Any]) -> None:
        for request in requests:
            sender = request.get_response_sender()
            if sender.is_cancelled():
                sender.send(flags=FINAL)
                continue
            try:
                (row,) = rows(request, self.settings.batched)
                last = self.write(row, self.settings.parameters(request), sender)
            except Exception as error:
                last = failure(error)
            sender.send(last, FINAL)

    def write(self, row: Row, parameters: dict[str, Any], sender: Any) -> Any:
        """Send all pieces but the last response, which is returned."""
        prompt = decode_prompt(row, 0)
        seed, stop = parameters.pop("seed", None), parameters.pop("stop_sequence", None) or []
        writer = Writer(
            self.pipe.tokenizer,
            lambda piece: sender.send(self.response(piece, "", writer)),
            stop,
            skip_special_tokens=parameters.get("skip_special_tokens", True),
        )
        ends = end_tokens(self.pipe)
        processors = []
        presence, frequency = parameters.pop("presence_penalty", 0.0), parameters.pop("frequency_penalty", 0.0)
        if presence or frequency:
            processors.append(Penalties(writer, presence, frequency))
        if parameters.pop("ignore_eos", False):
            ends = frozenset()
            processors.append(EverOn(end_tokens(self.pipe)))
        criteria = until_gone([sender.is_cancelled])
        criteria.append(writer)
        with torch.inference_mode(), seeded(seed):
            self.pipe(
                prompt.get("messages") or prompt["text"],
                stopping_criteria=criteria,
                logits_processor=processors,
                **parameters,
            )
        rest = writer.rest()
        return self.response(rest, "stop" if writer.stopped or writer.last_token in ends else "length", writer)

    def response(self, piece: str, finish_reason: str, writer: Writer) -> Any:
        values = {
            "text": [piece],
            "finish_reason": [finish_reason],
            "prompt_tokens": [writer.prompt_tokens],
            "completion_tokens": [writer.completion_tokens],
        }
        types = self.settings.output_types
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, as_array(value, types[name])) for name, value in values.items()]
        )


def end_tokens(pipe: Any) -> frozenset[int]:
    """The tokens that end a text."""
    ends = pipe.model.generation_config.eos_token_id
    return frozenset() if ends is None else frozenset([ends] if isinstance(ends, int) else ends)
