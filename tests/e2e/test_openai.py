"""The unmodified client of OpenAI against a real server with deployed checkpoints."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from tests.serving import free_ports, serving

pytest.importorskip("transformers", reason="deploying needs transformers: pip install 'conch[hf]'")

from conch.deploy.plan import Choices
from conch.deploy.run import Order, write
from tests.checkpoints import text as texts

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What lay in the harbour?"}]
PROMPT = "The wind came in"
GREEDY = {"max_tokens": 12, "temperature": 0}
KEY = "sesame"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints, and a repository of a streaming writer, a plain one and an embedder."""
    directory = tmp_path_factory.mktemp("openai")
    texts.text_generation_llama(directory / "writer")
    texts.sentence_similarity_bert(directory / "embedder")
    (directory / "keys").write_text(KEY)
    for name, source, task, stream in (
        ("writer", directory / "writer", "text-generation", True),
        ("plain", directory / "writer", "text-generation", False),
        ("embedder", directory / "embedder", "sentence-embedding", False),
    ):
        order = Order(str(source), directory / "models", task=task, name=name, choices=Choices(stream=stream))
        write(order, lambda text: None, lambda what, done: None)
    return directory


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[tuple[str, str]]:
    """The addresses of the API of OpenAI and of HTTP."""
    (port,) = free_ports(1)
    flags = [f"--openai-port={port}", f"--api-key-file={directory / 'keys'}"]
    with serving(directory / "models", *flags, limit_s=240) as running:
        yield f"http://127.0.0.1:{port}/v1", f"http://{running.http_url}"


@pytest.fixture
def client(server: tuple[str, str]) -> Iterator[Any]:
    with openai.OpenAI(base_url=server[0], api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def truth(directory: Path) -> dict[str, tuple[str, int]]:
    """What `generate` itself writes to the conversation and to the prompt, and the tokens of each."""
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
            )
        found[name] = (tokenizer.decode(made[0, size:], skip_special_tokens=True), size)
    return found


@pytest.mark.parametrize("model", ["writer", "plain"])
def test_a_conversation_is_answered_and_streamed_as_generate_writes_it(
    client: Any, truth: dict[str, tuple[str, int]], model: str
) -> None:
    text, size = truth["chat"]
    whole = client.chat.completions.create(model=model, messages=MESSAGES, **GREEDY)
    assert (whole.choices[0].message.role, whole.choices[0].message.content) == ("assistant", text)
    chunks = list(client.chat.completions.create(model=model, messages=MESSAGES, stream=True, **GREEDY))
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    assert "".join(pieces) == text
    if model == "writer":
        assert whole.usage.model_dump(include={"prompt_tokens", "completion_tokens", "total_tokens"}) == {
            "prompt_tokens": size,
            "completion_tokens": 12,
            "total_tokens": size + 12,
        }
        assert (whole.choices[0].finish_reason, chunks[-1].choices[0].finish_reason) == ("length", "length")
        assert len(pieces) > 3
    else:
        assert (whole.usage, whole.choices[0].finish_reason, len(pieces)) == (None, None, 1)


def test_a_completion_is_answered_and_streamed_as_generate_writes_it(
    client: Any, truth: dict[str, tuple[str, int]]
) -> None:
    text, size = truth["prompt"]
    assert client.completions.create(model="writer", prompt=PROMPT, **GREEDY).choices[0].text == text
    assert client.completions.create(model="plain", prompt=PROMPT, **GREEDY).choices[0].text == text
    *chunks, last = client.completions.create(
        model="writer", prompt=PROMPT, stream=True, stream_options={"include_usage": True}, **GREEDY
    )
    assert "".join(chunk.choices[0].text for chunk in chunks) == text
    assert (last.choices, last.usage.prompt_tokens, last.usage.completion_tokens) == ([], size, 12)


def test_a_stop_ends_the_text_before_it(client: Any, truth: dict[str, tuple[str, int]]) -> None:
    text, _ = truth["prompt"]
    stop = text[6:9]
    for model in ("writer", "plain"):
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
    assert [model.id for model in client.models.list()] == ["embedder", "plain", "writer"]
    assert client.models.retrieve("plain").owned_by == "conch"


def test_what_is_wrong_raises_the_clients_own_errors(client: Any, server: tuple[str, str]) -> None:
    with pytest.raises(openai.NotFoundError, match="'nobody' does not exist"):
        client.chat.completions.create(model="nobody", messages=MESSAGES)
    with pytest.raises(openai.BadRequestError, match="'n' must be 1") as refused:
        client.completions.create(model="writer", prompt=PROMPT, n=2)
    assert refused.value.param == "n"
    with pytest.raises(openai.BadRequestError, match="must be one of system"):
        client.chat.completions.create(model="writer", messages=[{"role": "tool", "content": "x"}])
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


def test_the_asynchronous_client_streams(server: tuple[str, str], truth: dict[str, tuple[str, int]]) -> None:
    async def run() -> list[str]:
        async with openai.AsyncOpenAI(base_url=server[0], api_key=KEY, max_retries=0) as client:
            stream = await client.chat.completions.create(model="writer", messages=MESSAGES, stream=True, **GREEDY)
            return [chunk.choices[0].delta.content or "" async for chunk in stream]

    assert "".join(asyncio.run(run())) == truth["chat"][0]


def test_the_streaming_model_answers_generate_stream_as_well(
    server: tuple[str, str], truth: dict[str, tuple[str, int]]
) -> None:
    body = json.dumps({"text": PROMPT, "max_new_tokens": 12, "do_sample": False}).encode()
    request = urllib.request.Request(
        f"{server[1]}/v2/models/writer/generate_stream", body, {"Authorization": f"Bearer {KEY}"}
    )
    with urllib.request.urlopen(request) as response:
        events = [json.loads(line[6:]) for line in response if line.startswith(b"data: ")]
    assert "".join(event["text"] for event in events) == truth["prompt"][0]
    assert (events[-1]["finish_reason"], events[-1]["completion_tokens"]) == ("length", 12)
