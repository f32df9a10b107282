"""Write text piece by piece: continue a prompt, or answer a conversation, and send what is written while it is written.

text-generation: `text` or `messages` -> any number of responses of `text`, `finish_reason`, `prompt_tokens`,
`completion_tokens` and `logprobs`

`messages` is a conversation as JSON, [{"role": "user", "content": "..."}]; the checkpoint's template makes a prompt
of it. `text` is used as it is. The pieces put together are the new text alone. Of the last response `finish_reason` is
"stop" (the model ended, or a text of `stop_sequence` came, which is left out) or "length"; of all others it is "".

An instance writes for one request after another, as its computing power would not grow by taking turns; `instances` of
them (config.pbtxt: instance_group) write for as many clients at once.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import triton_python_backend_utils as pb_utils
from hf_generation import until_gone
from hf_grammar import JsonGrammars
from hf_likelihoods import Likelihoods
from hf_prompts import encode_prompt
from hf_serving import Row, Settings, load_pipeline, seeded, stage_parameters
from hf_streaming import EverOn, Penalties, Writer
from hf_writing import end_tokens, most
from light_generation import decode_prompt, pipeline_parameters
from light_serving import as_array, failure, rows

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self.settings = Settings(args)
        self.pipe = load_pipeline(self.settings)
        self.ends = end_tokens(self.pipe)
        self.grammars = JsonGrammars(self.pipe, self.ends)

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
        seed, stop = parameters.pop("seed", None), parameters.pop("stop_sequence", None) or []
        logprobs, schema = parameters.pop("logprobs", None), parameters.pop("json_schema", None)
        presence, frequency = parameters.pop("presence_penalty", 0.0), parameters.pop("frequency_penalty", 0.0)
        ends = frozenset() if parameters.pop("ignore_eos", False) else self.ends
        stages = stage_parameters(self.pipe, pipeline_parameters(self.settings.task, parameters))
        preprocess, forward, postprocess = stages
        likelihoods = None
        if logprobs is not None:
            likelihoods = Likelihoods(self.pipe.model, self.pipe.tokenizer, most(logprobs))
        writer = Writer(
            self.pipe.tokenizer,
            lambda piece: sender.send(self.response(piece, "", writer)),
            stop,
            likelihoods,
            skip_special_tokens=postprocess.get("skip_special_tokens", True),
        )
        processors: list[Any] = []
        if presence or frequency:
            processors.append(Penalties(writer, presence, frequency))
        if ends != self.ends:
            processors.append(EverOn(self.ends))
        if schema:
            processors.append(self.grammars.grammar(schema))
        criteria = until_gone([sender.is_cancelled])
        criteria.append(writer)
        part = encode_prompt(self.pipe, decode_prompt(row, 0), preprocess)
        with torch.inference_mode(), seeded(seed), likelihoods or contextlib.nullcontext():
            self.pipe.forward(part, stopping_criteria=criteria, logits_processor=processors, **forward)
        rest = writer.rest()
        return self.response(rest, "stop" if writer.stopped or writer.last_token in ends else "length", writer)

    def response(self, piece: str, finish_reason: str, writer: Writer) -> Any:
        values = {
            "text": [piece],
            "finish_reason": [finish_reason],
            "prompt_tokens": [writer.prompt_tokens],
            "completion_tokens": [writer.completion_tokens],
            "logprobs": [writer.logprobs()],
        }
        types = self.settings.output_types
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, as_array(value, types[name])) for name, value in values.items()]
        )
