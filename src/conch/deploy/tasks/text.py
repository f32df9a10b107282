"""Tasks on text alone."""

from __future__ import annotations

from conch.deploy.tasks.spec import (
    FUNCTION_TO_APPLY,
    HYPOTHESIS_TEMPLATE,
    JSON_OUTPUT,
    TOP_K,
    TRUNCATION,
    ParameterSpec,
    Task,
    TensorSpec,
    text_input,
)
from conch.tensor import DataType

_LIBRARIES = ("light_serving.py", "light_inputs.py", "hf_serving.py", "light_outputs.py", "hf_text.py")
_TEXT = text_input("text", "the text")

TEXT_CLASSIFICATION = Task(
    name="text-classification",
    pipeline="text-classification",
    summary="which class a text belongs to",
    template="text_classification.py",
    libraries=_LIBRARIES,
    inputs=(_TEXT, text_input("text_pair", "the second text of a pair", optional=True)),
    outputs=(
        TensorSpec("logits", DataType.FP32, ("num_labels",), "what the model said of each class"),
        TensorSpec("probs", DataType.FP32, ("num_labels",), "the score of each class, in the order of the logits"),
        TensorSpec("label", DataType.BYTES, (1,), "the name of the best class"),
        JSON_OUTPUT,
    ),
    parameters=(TOP_K, FUNCTION_TO_APPLY, TRUNCATION, ParameterSpec("max_length", "int[1..]", "where truncation cuts")),
)

ZERO_SHOT_CLASSIFICATION = Task(
    name="zero-shot-classification",
    pipeline="zero-shot-classification",
    summary="which of the given labels fits a text",
    template="text_classification.py",
    libraries=_LIBRARIES,
    inputs=(_TEXT, text_input("candidate_labels", "the labels to choose from", many=True)),
    outputs=(
        TensorSpec("labels", DataType.BYTES, (-1,), "the labels, the best first"),
        TensorSpec("scores", DataType.FP32, (-1,), "the score of each of `labels`"),
        JSON_OUTPUT,
    ),
    parameters=(HYPOTHESIS_TEMPLATE, ParameterSpec("multi_label", "bool", "score each label on its own")),
)

TEXT_RANKING = Task(
    name="text-ranking",
    summary="how well each text answers a query (a cross-encoder)",
    template="text_classification.py",
    libraries=_LIBRARIES,
    inputs=(text_input("query", "the query"), text_input("text", "the texts to rank", many=True)),
    outputs=(TensorSpec("scores", DataType.FP32, (-1,), "the score of each text, in the order of `text`"), JSON_OUTPUT),
    parameters=(ParameterSpec("top_k", "int[1..]", "how many texts `json` lists, the best first"),),
)

SENTENCE_EMBEDDING = Task(
    name="sentence-embedding",
    summary="one vector for a text, as sentence-transformers makes it",
    template="text_embedding.py",
    libraries=_LIBRARIES,
    inputs=(_TEXT,),
    outputs=(TensorSpec("embeddings", DataType.FP32, ("embedding_size",), "the vector"),),
    parameters=(
        ParameterSpec("prompt", "str", "put before the text"),
        ParameterSpec("prompt_name", "str", "which of the checkpoint's prompts to put before the text"),
        ParameterSpec("normalize", "bool", "scale to length 1, or not, whatever the checkpoint says"),
    ),
)

FEATURE_EXTRACTION = Task(
    name="feature-extraction",
    pipeline="feature-extraction",
    summary="one vector for each token of a text",
    template="text_embedding.py",
    libraries=_LIBRARIES,
    inputs=(_TEXT,),
    outputs=(
        TensorSpec(
            "last_hidden_state", DataType.FP32, (-1, "hidden_size"), "one vector a token; rows of 0 are padding"
        ),
        TensorSpec("attention_mask", DataType.INT64, (-1,), "1 for a token of this text, 0 for padding"),
    ),
    parameters=(TRUNCATION,),
)

FILL_MASK = Task(
    name="fill-mask",
    pipeline="fill-mask",
    summary="which tokens fit where the text says [MASK]",
    template="text_tokens.py",
    libraries=_LIBRARIES,
    inputs=(_TEXT,),
    outputs=(
        TensorSpec("tokens", DataType.INT64, (-1, -1), "token ids [masks in the text, top_k], the best first"),
        TensorSpec("token_strings", DataType.BYTES, (-1, -1), "the tokens as text"),
        TensorSpec("scores", DataType.FP32, (-1, -1), "their probabilities"),
        TensorSpec("sequences", DataType.BYTES, (-1, -1), "the text with the mask filled in"),
        JSON_OUTPUT,
    ),
    parameters=(
        ParameterSpec("top_k", "int[1..]", "how many tokens a mask"),
        ParameterSpec("targets", "list", "choose among these tokens alone"),
        ParameterSpec("tokenizer_kwargs", "object", 'options of the tokenizer, such as {"truncation": true}'),
    ),
)

TOKEN_CLASSIFICATION = Task(
    name="token-classification",
    pipeline="token-classification",
    summary="which words of a text are names, places, ...",
    template="text_tokens.py",
    libraries=_LIBRARIES,
    inputs=(_TEXT,),
    outputs=(
        TensorSpec("labels", DataType.BYTES, (-1,), "the class of each entity"),
        TensorSpec("scores", DataType.FP32, (-1,), "its score"),
        TensorSpec("words", DataType.BYTES, (-1,), "its text"),
        TensorSpec("start", DataType.INT64, (-1,), "where it starts in the text, in characters; -1 if not known"),
        TensorSpec("end", DataType.INT64, (-1,), "where it ends"),
        JSON_OUTPUT,
    ),
    parameters=(
        ParameterSpec("aggregation_strategy", "none|simple|first|average|max", "how tokens of a word are joined"),
        ParameterSpec("ignore_labels", "list", 'classes to leave out; ["O"] unless given'),
        ParameterSpec("stride", "int[0..]", "split long texts, with this overlap in tokens"),
    ),
)

TASKS = (
    TEXT_CLASSIFICATION,
    ZERO_SHOT_CLASSIFICATION,
    TEXT_RANKING,
    SENTENCE_EMBEDDING,
    FEATURE_EXTRACTION,
    FILL_MASK,
    TOKEN_CLASSIFICATION,
)
