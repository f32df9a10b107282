"""Tasks that bring texts together with images, documents or tables, and tasks on several images."""

from __future__ import annotations

import msgspec

from conch.deploy.tasks.spec import (
    HYPOTHESIS_TEMPLATE,
    IMAGE,
    JSON_OUTPUT,
    TRUNCATION,
    ParameterSpec,
    Task,
    TensorSpec,
    text_input,
)
from conch.tensor import DataType

_LIBRARIES = ("light_serving.py", "light_inputs.py", "hf_serving.py", "light_outputs.py")
_SCORES = TensorSpec("scores", DataType.FP32, (-1,), "the score of each")

ZERO_SHOT_IMAGE_CLASSIFICATION = Task(
    name="zero-shot-image-classification",
    pipeline="zero-shot-image-classification",
    summary="which of the given texts fits an image (CLIP, SigLIP, ...)",
    template="dual_encoder.py",
    libraries=("light_serving.py", "light_inputs.py", "hf_serving.py"),
    inputs=(IMAGE, text_input("text", "the texts, used as they are", many=True)),
    outputs=(
        TensorSpec("logits_per_image", DataType.FP32, (-1,), "what the model said of each text"),
        TensorSpec("probs", DataType.FP32, (-1,), "their softmax (SigLIP: sigmoid), in the order of `text`"),
        TensorSpec("labels", DataType.BYTES, (-1,), "`text` again, to go with `probs`"),
        JSON_OUTPUT,
    ),
    parameters=(HYPOTHESIS_TEMPLATE, TRUNCATION),
    packages=("pillow",),
)

ZERO_SHOT_OBJECT_DETECTION = Task(
    name="zero-shot-object-detection",
    pipeline="zero-shot-object-detection",
    summary="where in an image is what the given texts say",
    template="per_sample.py",
    libraries=_LIBRARIES,
    inputs=(IMAGE, text_input("text", "what to look for", many=True)),
    outputs=(
        TensorSpec("boxes", DataType.INT32, (-1, 4), "xmin, ymin, xmax, ymax of each object, in pixels"),
        _SCORES,
        TensorSpec("labels", DataType.BYTES, (-1,), "which of `text` each is; an empty one pads a batch"),
        JSON_OUTPUT,
    ),
    parameters=(
        ParameterSpec("threshold", "float", "leave out what scores less"),
        ParameterSpec("top_k", "int[1..]", "at most that many objects"),
    ),
    max_batch_size=8,
    packages=("pillow", "scipy"),
)

MASK_GENERATION = Task(
    name="mask-generation",
    pipeline="mask-generation",
    summary="masks of all things in an image (SAM)",
    template="masks.py",
    libraries=("light_serving.py", "light_inputs.py", "hf_serving.py", "hf_masks.py", "light_overlap.py"),
    inputs=(IMAGE,),
    outputs=(
        TensorSpec("masks", DataType.UINT8, (-1, -1, -1), "255 where a thing is, [things, height, width]"),
        _SCORES,
        JSON_OUTPUT,
    ),
    parameters=(
        ParameterSpec("points_per_batch", "int[1..]", "how many points run at once"),
        ParameterSpec("points_per_crop", "int[1..256]", "points along a side of the image"),
        ParameterSpec("crops_n_layers", "int[0..4]", "look at crops of the image too, in that many layers"),
        ParameterSpec("pred_iou_thresh", "float", "leave out masks the model trusts less"),
        ParameterSpec("stability_score_thresh", "float", "leave out masks less stable"),
        ParameterSpec("mask_threshold", "float", "from which value on a pixel belongs to a mask"),
        ParameterSpec("crops_nms_thresh", "float", "drop masks that overlap others more"),
    ),
    max_batch_size=4,
    packages=("pillow",),
)

KEYPOINT_MATCHING = Task(
    name="keypoint-matching",
    pipeline="keypoint-matching",
    summary="which points of two images show the same",
    template="per_sample.py",
    libraries=_LIBRARIES,
    inputs=(msgspec.structs.replace(IMAGE, dims=(2,), doc="two encoded images"),),
    outputs=(
        TensorSpec("keypoints0", DataType.FP32, (-1, 2), "x, y of each match in the first image"),
        TensorSpec("keypoints1", DataType.FP32, (-1, 2), "x, y of each match in the second image"),
        _SCORES,
        JSON_OUTPUT,
    ),
    parameters=(ParameterSpec("threshold", "float", "leave out what scores less"),),
    max_batch_size=8,
    packages=("pillow",),
)

DOCUMENT_QUESTION_ANSWERING = Task(
    name="document-question-answering",
    pipeline="document-question-answering",
    summary="answer a question about a page",
    template="per_sample.py",
    libraries=_LIBRARIES,
    inputs=(
        text_input("question", "the question"),
        msgspec.structs.replace(IMAGE, doc="the page as an encoded image", optional=True),
        text_input(
            "word_boxes",
            'the words of the page as JSON, boxes in thousandths: [["total", [x0, y0, x1, y1]]]; without it the server '
            "reads the image with Tesseract (LayoutLM)",
            optional=True,
        ),
    ),
    outputs=(
        TensorSpec("answer", DataType.BYTES, (-1,), "the answers, the best first"),
        TensorSpec("scores", DataType.FP32, (-1,), "their scores; 1 for a model that generates its answer"),
        TensorSpec("start", DataType.INT64, (-1,), "the first word of each; -1 for a model that generates"),
        TensorSpec("end", DataType.INT64, (-1,), "the last word of each"),
        JSON_OUTPUT,
    ),
    parameters=(
        ParameterSpec("top_k", "int[1..]", "how many answers"),
        ParameterSpec("doc_stride", "int[0..]", "overlap of the parts of a long page, in tokens"),
        ParameterSpec("max_answer_len", "int[1..]", "longest answer, in tokens"),
        ParameterSpec("max_seq_len", "int[1..]", "longest part of a page, in tokens"),
        ParameterSpec("handle_impossible_answer", "bool", "an empty answer is an answer too"),
        ParameterSpec("lang", "str", "the language Tesseract reads"),
    ),
    max_batch_size=8,
    packages=("pillow",),
)

TABLE_QUESTION_ANSWERING = Task(
    name="table-question-answering",
    pipeline="table-question-answering",
    summary="answer a question about a table",
    template="per_sample.py",
    libraries=_LIBRARIES,
    inputs=(
        text_input("query", "the question"),
        text_input("table", 'the table as JSON, all cells text: {"column": ["cell", ...], ...}'),
    ),
    outputs=(
        TensorSpec("answer", DataType.BYTES, (1,), "the answer"),
        TensorSpec("cells", DataType.BYTES, (-1,), "the cells it comes from"),
        TensorSpec("coordinates", DataType.INT64, (-1, 2), "row and column of each"),
        TensorSpec("aggregator", DataType.BYTES, (1,), "what to do with the cells (SUM, COUNT, ...), if anything"),
        JSON_OUTPUT,
    ),
    parameters=(
        ParameterSpec("truncation", "str", "what to do with tables that are too long: drop_rows_to_fit"),
        ParameterSpec("sequential", "bool", "one query after the other"),
    ),
    max_batch_size=8,
    packages=("pandas", "pillow"),
)

DECISION = Task(
    name="decision",
    pipeline="decision",
    summary="answer questions with given options",
    template="per_sample.py",
    libraries=_LIBRARIES,
    inputs=(text_input("request", 'JSON: {"state": ..., "questions": {"name": {"type": "choice", ...}}}'),),
    outputs=(
        TensorSpec("questions", DataType.BYTES, (-1,), "the names of the questions"),
        TensorSpec("answers", DataType.BYTES, (-1,), "the answer to each, as JSON"),
        JSON_OUTPUT,
    ),
    max_batch_size=8,
    packages=("pillow",),
)

TASKS = (
    ZERO_SHOT_IMAGE_CLASSIFICATION,
    ZERO_SHOT_OBJECT_DETECTION,
    MASK_GENERATION,
    KEYPOINT_MATCHING,
    DOCUMENT_QUESTION_ANSWERING,
    TABLE_QUESTION_ANSWERING,
    DECISION,
)
