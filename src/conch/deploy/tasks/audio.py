"""Tasks on sound."""

from __future__ import annotations

from conch.deploy.tasks.spec import (
    AUDIO,
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

_PACKAGES = ("soundfile", "soxr", "pillow")
_LIBRARIES = (
    *("light_serving.py", "light_inputs.py", "light_outputs.py", "light_generation.py"),
    *("hf_serving.py", "hf_media.py"),
)

AUDIO_CLASSIFICATION = Task(
    name="audio-classification",
    pipeline="audio-classification",
    summary="which class a sound belongs to",
    template="audio.py",
    libraries=_LIBRARIES,
    inputs=(AUDIO,),
    outputs=(
        TensorSpec("logits", DataType.FP32, ("num_labels",), "what the model said of each class"),
        TensorSpec("probs", DataType.FP32, ("num_labels",), "the score of each class, in the order of the logits"),
        TensorSpec("label", DataType.BYTES, (1,), "the name of the best class"),
        JSON_OUTPUT,
    ),
    parameters=(TOP_K, FUNCTION_TO_APPLY),
    max_batch_size=8,
    packages=_PACKAGES,
)

AUTOMATIC_SPEECH_RECOGNITION = Task(
    name="automatic-speech-recognition",
    pipeline="automatic-speech-recognition",
    summary="what is said in a sound",
    template="audio.py",
    libraries=_LIBRARIES,
    inputs=(AUDIO,),
    outputs=(
        TensorSpec("text", DataType.BYTES, (1,), "what is said"),
        TensorSpec("chunks", DataType.BYTES, (-1,), "its parts, if `return_timestamps` asks for them"),
        TensorSpec("timestamps", DataType.FP32, (-1, 2), "start and end of each part in seconds; -1 if not known"),
        JSON_OUTPUT,
    ),
    parameters=(
        ParameterSpec("return_timestamps", "any", "true (Whisper), word or char (CTC)"),
        ParameterSpec("chunk_length_s", "float", "split long sounds into parts of that many seconds (CTC)"),
        ParameterSpec("stride_length_s", "json", "how far parts overlap, in seconds"),
        ParameterSpec("return_language", "bool", "name the language (Whisper)"),
        ParameterSpec("language", "str", "the language that is spoken (Whisper)"),
        ParameterSpec("task", "transcribe|translate", "what to write (Whisper)"),
        ParameterSpec("max_new_tokens", "int[1..]", "at most that many tokens (models that generate)"),
        ParameterSpec("num_beams", "int[1..100]", "beam search with that many beams (models that generate)"),
        ParameterSpec("generate_kwargs", "generation", "other arguments of `generate`"),
    ),
    max_batch_size=8,
    packages=_PACKAGES,
)

ZERO_SHOT_AUDIO_CLASSIFICATION = Task(
    name="zero-shot-audio-classification",
    pipeline="zero-shot-audio-classification",
    summary="which of the given texts fits a sound (CLAP)",
    template="dual_encoder.py",
    libraries=("light_serving.py", "light_inputs.py", "hf_serving.py"),
    inputs=(AUDIO, text_input("text", "the texts, used as they are", many=True)),
    outputs=(
        TensorSpec("logits_per_audio", DataType.FP32, (-1,), "what the model said of each text"),
        TensorSpec("probs", DataType.FP32, (-1,), "their softmax, in the order of `text`"),
        TensorSpec("labels", DataType.BYTES, (-1,), "`text` again, to go with `probs`"),
        JSON_OUTPUT,
    ),
    parameters=(HYPOTHESIS_TEMPLATE, TRUNCATION),
    max_batch_size=8,
    packages=_PACKAGES,
)

TEXT_TO_AUDIO = Task(
    name="text-to-audio",
    pipeline="text-to-audio",
    summary="a text spoken, or a sound as a text describes it",
    template="per_sample.py",
    libraries=("light_serving.py", "light_inputs.py", "hf_serving.py", "light_outputs.py"),
    inputs=(
        text_input("text", "the text"),
        TensorSpec(
            "speaker_embeddings",
            DataType.FP32,
            ("speaker_embedding_dim",),
            "the vector of who speaks (x-vector)",
            only_of="SpeechT5ForTextToSpeech",
        ),
    ),
    outputs=(
        TensorSpec("audio", DataType.FP32, (-1,), "mono samples, -1 to 1"),
        TensorSpec("sampling_rate", DataType.INT32, (1,), "samples a second"),
    ),
    parameters=(
        ParameterSpec("speaker_id", "int[0..]", "who speaks (models of several voices that do not generate)"),
        ParameterSpec("seed", "int", "draw the same sound for the same seed: each text draws from it anew"),
        ParameterSpec("generate_kwargs", "generation", "arguments of `generate`"),
    ),
    max_batch_size=8,
    packages=("pillow",),
)

TASKS = (AUDIO_CLASSIFICATION, AUTOMATIC_SPEECH_RECOGNITION, ZERO_SHOT_AUDIO_CLASSIFICATION, TEXT_TO_AUDIO)
