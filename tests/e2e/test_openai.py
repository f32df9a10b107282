"""The unmodified client of OpenAI against a real server with deployed checkpoints."""

from __future__ import annotations

import asyncio
import functools
import json
import queue
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openai
import pydantic
import pytest
import tritonclient.grpc as grpcclient

from tests.serving import free_ports, serving

pytest.importorskip("transformers", reason="deploying needs transformers: pip install 'conch[hf]'")

from conch.deploy.plan import Choices
from conch.deploy.run import Order, write
from tests.checkpoints import text as texts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What lay in the harbour?"}]
PROMPT = "The wind came in"
GREEDY = {"max_tokens": 12, "temperature": 0}
KEY = "sesame"
#: Before the template of the checkpoint: a rule for conversations, and functions as many checkpoints are told of them.
RULES = """{% if messages[0]['role'] == 'assistant' %}{{ raise_exception('a user should begin') }}{% endif %}
{%- if tools %}{{ tools | tojson }}Call: <tool_call>{"name": "", "arguments": {}}</tool_call>{% endif %}"""
WRITERS = ["writer", "plain", "parts"]
LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {
            "type": "object",
            "properties": {"place": {"enum": ["sea", "sky"]}},
            "required": ["place"],
            "additionalProperties": False,
        },
    },
}


class Harbour(pydantic.BaseModel):
    boats: Literal[1, 2, 3]
    calm: bool


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints, and a repository of a streaming writer, a plain one, one in parts and an embedder."""
    directory = tmp_path_factory.mktemp("openai")
    texts.text_generation_llama(directory / "writer")
    texts.sentence_similarity_bert(directory / "embedder")
    (directory / "keys").write_text(KEY)
    template = directory / "writer" / "chat_template.jinja"
    template.write_text(RULES + template.read_text())
    for name, source, task, stream, approach in (
        ("writer", directory / "writer", "text-generation", True, "pipeline"),
        ("plain", directory / "writer", "text-generation", False, "pipeline"),
        ("parts", directory / "writer", "text-generation", False, "ensemble"),
        ("embedder", directory / "embedder", "sentence-embedding", False, "pipeline"),
    ):
        choices = Choices(stream=stream)
        order = Order(str(source), directory / "models", task=task, name=name, approach=approach, choices=choices)
        assert write(order, lambda text: None, lambda what, done: None).approach == approach
    return directory


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[tuple[str, str, str]]:
    """The addresses of the API of OpenAI, of HTTP and of gRPC."""
    (port,) = free_ports(1)
    flags = [f"--openai-port={port}", f"--api-key-file={directory / 'keys'}"]
    with serving(directory / "models", *flags, limit_s=240) as running:
        yield f"http://127.0.0.1:{port}/v1", f"http://{running.http_url}", running.grpc_url


@pytest.fixture
def client(server: tuple[str, str, str]) -> Iterator[Any]:
    with openai.OpenAI(base_url=server[0], api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def truth(directory: Path) -> dict[str, tuple[str, int]]:
    """What `generate` itself writes to the conversation and to the prompt, and the tokens of each."""
    return {name: (text, size) for name, (text, size, _) in generated(directory).items()}


@pytest.fixture(scope="module")
def likelihoods(directory: Path) -> dict[str, list[float]]:
    """How likely the tokens of these texts were."""
    return {name: likely for name, (_, _, likely) in generated(directory).items()}


@functools.cache
def generated(directory: Path) -> dict[str, tuple[str, int, list[float]]]:
    """The text, the tokens of the prompt, and the logarithms of the probabilities, by transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory / "writer")
    model = AutoModelForCausalLM.from_pretrained(directory / "writer")
    found = {}
    chat = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    for name, encoded in (("chat", chat), ("prompt", tokenizer(PROMPT, return_tensors="pt"))):
        size = encoded["input_ids"].shape[1]
        with torch.inference_mode():
            made = model.generate(
                input_ids=encoded["input_ids"],
                attention_mask=encoded["attention_mask"],
                max_new_tokens=12,
                do_sample=False,
                output_logits=True,
                return_dict_in_generate=True,
            )
        new = made.sequences[0, size:]
        likely = torch.cat(made.logits).log_softmax(-1).gather(1, new[:, None])[:, 0].tolist()
        found[name] = (tokenizer.decode(new, skip_special_tokens=True), size, likely)
    return found


@pytest.mark.parametrize("model", WRITERS)
def test_a_conversation_is_answered_and_streamed_as_generate_writes_it(
    client: Any, truth: dict[str, tuple[str, int]], model: str
) -> None:
    text, size = truth["chat"]
    whole = client.chat.completions.create(model=model, messages=MESSAGES, **GREEDY)
    assert (whole.choices[0].message.role, whole.choices[0].message.content) == ("assistant", text)
    chunks = list(client.chat.completions.create(model=model, messages=MESSAGES, stream=True, **GREEDY))
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    assert "".join(pieces) == text
    assert whole.usage.model_dump(include={"prompt_tokens", "completion_tokens", "total_tokens"}) == {
        "prompt_tokens": size,
        "completion_tokens": 12,
        "total_tokens": size + 12,
    }
    assert (whole.choices[0].finish_reason, chunks[-1].choices[0].finish_reason) == ("length", "length")
    assert len(pieces) > 3 if model == "writer" else len(pieces) == 1


@pytest.mark.parametrize("model", WRITERS)
def test_a_completion_is_answered_and_streamed_as_generate_writes_it(
    client: Any, truth: dict[str, tuple[str, int]], model: str
) -> None:
    text, size = truth["prompt"]
    assert client.completions.create(model=model, prompt=PROMPT, **GREEDY).choices[0].text == text
    *chunks, last = client.completions.create(
        model=model, prompt=PROMPT, stream=True, stream_options={"include_usage": True}, **GREEDY
    )
    assert "".join(chunk.choices[0].text for chunk in chunks) == text
    assert (last.choices, last.usage.prompt_tokens, last.usage.completion_tokens) == ([], size, 12)


@pytest.mark.parametrize("model", WRITERS)
def test_likelihoods_are_those_of_generate(client: Any, likelihoods: dict[str, list[float]], model: str) -> None:
    asked = {"model": model, "messages": MESSAGES, "logprobs": True, "top_logprobs": 2, **GREEDY}
    choice = client.chat.completions.create(**asked).choices[0]
    told = choice.logprobs.content
    assert [each.logprob for each in told] == pytest.approx(likelihoods["chat"], abs=1e-4)
    assert b"".join(bytes(each.bytes) for each in told).decode("utf-8", "replace") == choice.message.content
    assert all(each.top_logprobs[0].logprob == each.logprob for each in told), "the likeliest were taken"
    streamed = [chunk.choices[0].logprobs for chunk in client.chat.completions.create(stream=True, **asked)]
    pieces = [each for piece in streamed if piece for each in piece.content]
    assert [each.logprob for each in pieces] == pytest.approx(likelihoods["chat"], abs=1e-4)
    lines = client.completions.create(model=model, prompt=PROMPT, logprobs=1, **GREEDY).choices[0].logprobs
    assert lines.token_logprobs == pytest.approx(likelihoods["prompt"], abs=1e-4)


@pytest.mark.parametrize("model", WRITERS)
def test_functions_are_called(client: Any, model: str) -> None:
    pytest.importorskip("llguidance")
    asked = {"model": model, "messages": MESSAGES, "tools": [LOOK], "max_tokens": 100, "temperature": 0}
    plain = client.chat.completions.create(**{**asked, "tools": openai.omit, "max_tokens": 1})
    offered = client.chat.completions.create(**{**asked, "max_tokens": 1})
    assert offered.usage.prompt_tokens > plain.usage.prompt_tokens, "the template told of the function"
    asked["parallel_tool_calls"] = False  # random weights would go on calling
    named = {"type": "function", "function": {"name": "look"}}
    for choice, reason in (("required", "tool_calls"), (named, "stop")):
        answer = client.chat.completions.create(tool_choice=choice, **asked).choices[0]
        assert (answer.finish_reason, answer.message.content) == (reason, None)
        (call,) = answer.message.tool_calls
        assert call.function.name == "look"
        assert json.loads(call.function.arguments)["place"] in ("sea", "sky")
    with client.chat.completions.stream(tool_choice=named, **asked) as stream:
        (streamed,) = stream.get_final_completion().choices[0].message.tool_calls
    assert streamed.function.arguments == answer.message.tool_calls[0].function.arguments
    results = [
        {"role": "assistant", "tool_calls": [streamed.model_dump(include={"id", "type", "function"})]},
        {"role": "tool", "tool_call_id": streamed.id, "content": "calm"},
    ]
    for call in results[0]["tool_calls"]:
        call["function"].pop("parsed_arguments", None)
    asked |= {"messages": [*MESSAGES, *results], "max_tokens": 1, "parallel_tool_calls": openai.omit}
    longer = client.chat.completions.create(**asked)
    assert longer.usage.prompt_tokens > offered.usage.prompt_tokens


@pytest.mark.parametrize("model", WRITERS)
def test_answers_are_what_a_class_describes(client: Any, model: str) -> None:
    pytest.importorskip("llguidance")
    asked = {"model": model, "messages": MESSAGES, "max_tokens": 200}
    answer = client.chat.completions.parse(response_format=Harbour, **asked).choices[0]
    assert isinstance(answer.message.parsed, Harbour)
    assert answer.finish_reason == "stop"
    with pytest.raises(openai.BadRequestError, match="'json_schema' cannot be enforced"):
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "boat"}}}
        client.chat.completions.create(response_format=form, **asked)


@pytest.mark.parametrize("model", WRITERS)
def test_a_conversation_that_the_template_refuses_is_a_bad_request(client: Any, model: str) -> None:
    messages = [{"role": "assistant", "content": "Hello"}]
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="refuses the conversation: a user should begin"):
            client.chat.completions.create(model=model, messages=messages, stream=stream)


def test_a_stop_ends_the_text_before_it(client: Any, truth: dict[str, tuple[str, int]]) -> None:
    text, _ = truth["prompt"]
    stop = text[6:9]
    for model in WRITERS:
        choice = client.completions.create(model=model, prompt=PROMPT, stop=stop, **GREEDY).choices[0]
        assert (choice.text, choice.finish_reason) == (text[: text.index(stop)], "stop")


def test_sampling_with_a_seed_is_repeated(client: Any) -> None:
    asked = {"temperature": 1.5, "top_p": 0.9, "seed": 3, "presence_penalty": 1, "frequency_penalty": 0.5}
    first, second = (
        client.completions.create(model="writer", prompt=PROMPT, max_tokens=9, extra_body={"ignore_eos": True}, **asked)
        for _ in range(2)
    )
    assert first.choices[0].text == second.choices[0].text
    assert first.usage.completion_tokens == 9


def test_texts_are_embedded_as_the_library_does(client: Any, directory: Path) -> None:
    from sentence_transformers import SentenceTransformer

    given = ["A red boat.", "The wind came in from the sea."]
    expected = SentenceTransformer(str(directory / "embedder"), device="cpu").encode(given)
    for form in ({}, {"encoding_format": "float"}):  # the client itself asks for base64, and decodes it
        made = client.embeddings.create(model="embedder", input=given, **form)
        assert np.allclose([each.embedding for each in made.data], expected, atol=1e-5)


def test_models_are_listed_and_retrieved(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["embedder", "parts", "plain", "writer"]
    assert client.models.retrieve("plain").owned_by == "conch"


def test_what_is_wrong_raises_the_clients_own_errors(client: Any, server: tuple[str, str, str]) -> None:
    with pytest.raises(openai.NotFoundError, match="'nobody' does not exist"):
        client.chat.completions.create(model="nobody", messages=MESSAGES)
    with pytest.raises(openai.BadRequestError, match="'n' must be 1") as refused:
        client.completions.create(model="writer", prompt=PROMPT, n=2)
    assert refused.value.param == "n"
    with pytest.raises(openai.BadRequestError, match="must be one of system"):
        client.chat.completions.create(model="writer", messages=[{"role": "oracle", "content": "x"}])
    with (
        openai.OpenAI(base_url=server[0], api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()


def test_a_client_that_leaves_a_stream_ends_its_generation(client: Any, truth: dict[str, tuple[str, int]]) -> None:
    """The only instance would write for minutes otherwise, and the next client wait for it."""
    endless = {"max_tokens": 200_000, "extra_body": {"ignore_eos": True}}
    with client.completions.create(model="writer", prompt=PROMPT, stream=True, temperature=0, **endless) as stream:
        assert next(iter(stream)).choices[0].text
    text, _ = truth["prompt"]
    answer = client.with_options(timeout=60).completions.create(model="writer", prompt=PROMPT, **GREEDY)
    assert answer.choices[0].text == text


def test_the_asynchronous_client_streams(server: tuple[str, str, str], truth: dict[str, tuple[str, int]]) -> None:
    async def run() -> list[str]:
        async with openai.AsyncOpenAI(base_url=server[0], api_key=KEY, max_retries=0) as client:
            stream = await client.chat.completions.create(model="writer", messages=MESSAGES, stream=True, **GREEDY)
            return [chunk.choices[0].delta.content or "" async for chunk in stream]

    assert "".join(asyncio.run(run())) == truth["chat"][0]


def test_the_streaming_model_answers_generate_stream_as_well(
    server: tuple[str, str, str], truth: dict[str, tuple[str, int]]
) -> None:
    body = json.dumps({"text": PROMPT, "max_new_tokens": 12, "do_sample": False}).encode()
    request = urllib.request.Request(
        f"{server[1]}/v2/models/writer/generate_stream", body, {"Authorization": f"Bearer {KEY}"}
    )
    with urllib.request.urlopen(request) as response:
        events = [json.loads(line[6:]) for line in response if line.startswith(b"data: ")]
    assert "".join(event["text"] for event in events) == truth["prompt"][0]
    assert (events[-1]["finish_reason"], events[-1]["completion_tokens"]) == ("length", 12)


def test_the_streaming_model_answers_a_stream_of_grpc_as_well(
    server: tuple[str, str, str], truth: dict[str, tuple[str, int]]
) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    text = grpcclient.InferInput("text", [1], "BYTES")
    text.set_data_from_numpy(np.array([PROMPT.encode()], object))
    pieces = []
    with grpcclient.InferenceServerClient(server[2]) as client:
        client.start_stream(
            lambda result, error: answers.put((result, error)), headers={"authorization": f"Bearer {KEY}"}
        )
        for request_id, parameters in (("1", {"max_new_tokens": 12, "do_sample": False}), ("2", {"beam": 1})):
            client.async_stream_infer(
                "writer", [text], request_id=request_id, parameters=parameters, enable_empty_final_response=True
            )
        while True:
            result, error = answers.get(timeout=60)
            if error is not None:
                break
            pieces.append(result)
    assert "unknown request parameters ['beam']" in str(error)
    assert {each.get_response().id for each in pieces} == {"1"}
    assert pieces[-1].get_response().parameters["triton_final_response"].bool_param
    assert "".join(each.as_numpy("text")[0].decode() for each in pieces) == truth["prompt"][0]
    assert pieces[-1].as_numpy("completion_tokens").tolist() == [12]
