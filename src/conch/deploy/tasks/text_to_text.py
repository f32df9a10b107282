"""Tasks that write a text of another: models of an encoder and a decoder (T5, BART, Marian, mBART, NLLB, ..)."""

from __future__ import annotations

from conch.deploy.tasks.spec import TRUNCATION, ParameterSpec, Task, TensorSpec, text_input
from conch.deploy.tasks.writing import CHOICE, COURSE, GENERATE_KWARGS, SKIP_SPECIAL_TOKENS
from conch.tensor import DataType

_LIBRARIES = (
    *("light_serving.py", "light_inputs.py", "light_outputs.py", "light_languages.py"),
    *("hf_serving.py", "hf_text.py", "hf_generation.py", "hf_text_to_text.py"),
)
_PARAMETERS = (
    *CHOICE,
    ParameterSpec("length_penalty", "float", "beam search: above 0 prefers longer texts, below 0 shorter ones"),
    ParameterSpec("early_stopping", "bool", "beam search: end with as many finished texts as there are beams"),
    ParameterSpec("no_repeat_ngram_size", "int[0..]", "repeat no sequence of that many tokens"),
    *COURSE,
    SKIP_SPECIAL_TOKENS,
    TRUNCATION,
    GENERATE_KWARGS,
)


def _task(name: str, output: str, summary: str, doc: str, more: tuple[ParameterSpec, ...] = ()) -> Task:
    return Task(
        name=name,
        summary=summary,
        template="text_to_text.py",
        libraries=_LIBRARIES,
        inputs=(text_input("text", doc),),
        outputs=(
            TensorSpec(output, DataType.BYTES, (-1,), "the text, one entry a returned sequence"),
            TensorSpec("json", DataType.BYTES, (1,), "the same as JSON, as transformers' pipeline returned it"),
        ),
        parameters=(*more, *_PARAMETERS),
        max_batch_size=8,
    )


TEXT2TEXT_GENERATION = _task(
    "text2text-generation", "generated_text", "write a text of another, as the model was trained to", "the text"
)
SUMMARIZATION = _task("summarization", "summary_text", "summarize a text", "the text to summarize")
TRANSLATION = _task(
    "translation",
    "translation_text",
    "translate a text",
    "the text to translate",
    (
        ParameterSpec("src_lang", "str", "the language of the text, for models that know several"),
        ParameterSpec("tgt_lang", "str", "the language to translate to, for models that know several"),
    ),
)

TASKS = (TEXT2TEXT_GENERATION, SUMMARIZATION, TRANSLATION)
