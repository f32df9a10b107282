"""Request parameters of tasks that write texts."""

from __future__ import annotations

from conch.deploy.tasks.spec import ParameterSpec

#: How long a text is, and how its tokens are chosen.
CHOICE = (
    ParameterSpec("max_new_tokens", "int[1..]", "at most that many tokens"),
    ParameterSpec("min_new_tokens", "int[0..]", "at least that many tokens"),
    ParameterSpec("do_sample", "bool", "draw tokens instead of taking the likeliest"),
    ParameterSpec("temperature", "float", "how daringly tokens are drawn"),
    ParameterSpec("top_p", "float", "draw among the likeliest tokens that make up this probability"),
    ParameterSpec("top_k", "int[0..]", "draw among that many tokens"),
    ParameterSpec("num_beams", "int[1..100]", "beam search with that many beams"),
    ParameterSpec("num_return_sequences", "int[1..100]", "how many texts to return"),
)
#: Against repetition; when to stop; how to get the same text again.
COURSE = (
    ParameterSpec("repetition_penalty", "float", "above 1: repeat less"),
    ParameterSpec("stop_sequence", "texts", "stop after this text, or after any of a JSON list of texts"),
    ParameterSpec("seed", "int", "draw the same tokens for the same seed; such a request is generated alone"),
)
SKIP_SPECIAL_TOKENS = ParameterSpec("skip_special_tokens", "bool", "leave special tokens out of the text")
GENERATE_KWARGS = ParameterSpec("generate_kwargs", "generation", "other arguments of `generate`")
