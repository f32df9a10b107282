"""Tasks on one image or one video."""

from __future__ import annotations

from conch.deploy.tasks.spec import FUNCTION_TO_APPLY, IMAGE, JSON_OUTPUT, TOP_K, ParameterSpec, Task, TensorSpec
from conch.tensor import DataType

_LIBRARIES = ("light_serving.py", "light_inputs.py", "hf_serving.py", "light_outputs.py", "hf_media.py", "hf_resize.py")
_PACKAGES = ("pillow",)
_SCORES = TensorSpec("scores", DataType.FP32, (-1,), "the score of each")
_LABELS = TensorSpec("labels", DataType.BYTES, (-1,), "the name of each; an empty one pads a batch")
_THRESHOLD = ParameterSpec("threshold", "float", "leave out what scores less")

IMAGE_CLASSIFICATION = Task(
    name="image-classification",
    pipeline="image-classification",
    summary="which class an image belongs to",
    template="image.py",
    libraries=_LIBRARIES,
    inputs=(IMAGE,),
    outputs=(
        TensorSpec("logits", DataType.FP32, ("num_labels",), "what the model said of each class"),
        TensorSpec("probs", DataType.FP32, ("num_labels",), "the score of each class, in the order of the logits"),
        TensorSpec("label", DataType.BYTES, (1,), "the name of the best class"),
        JSON_OUTPUT,
    ),
    parameters=(TOP_K, FUNCTION_TO_APPLY),
    packages=_PACKAGES,
)

VIDEO_CLASSIFICATION = Task(
    name="video-classification",
    pipeline="video-classification",
    summary="which class a video belongs to",
    template="image.py",
    libraries=_LIBRARIES,
    inputs=(TensorSpec("video", DataType.BYTES, (1,), "an encoded video (MP4, WebM, ...)"),),
    outputs=IMAGE_CLASSIFICATION.outputs,
    parameters=(
        TOP_K,
        FUNCTION_TO_APPLY,
        ParameterSpec("num_frames", "int[1..4096]", "how many frames to look at"),
        ParameterSpec("frame_sampling_rate", "int[1..1000000]", "look at every so many-th frame"),
    ),
    max_batch_size=4,
    packages=(*_PACKAGES, "av"),
)

IMAGE_FEATURE_EXTRACTION = Task(
    name="image-feature-extraction",
    pipeline="image-feature-extraction",
    summary="vectors of an image",
    template="image.py",
    libraries=_LIBRARIES,
    inputs=(IMAGE,),
    outputs=(
        TensorSpec("last_hidden_state", DataType.FP32, ("image_features",), "one vector a patch, or a feature map"),
        TensorSpec("pooler_output", DataType.FP32, (-1,), "one vector, if the model pools", optional=True),
    ),
    packages=_PACKAGES,
)

OBJECT_DETECTION = Task(
    name="object-detection",
    pipeline="object-detection",
    summary="what is where in an image",
    template="image.py",
    libraries=_LIBRARIES,
    inputs=(IMAGE,),
    outputs=(
        TensorSpec("boxes", DataType.INT32, (-1, 4), "xmin, ymin, xmax, ymax of each object, in pixels"),
        _SCORES,
        _LABELS,
        JSON_OUTPUT,
    ),
    parameters=(_THRESHOLD,),
    max_batch_size=8,
    packages=(*_PACKAGES, "scipy"),
)

IMAGE_SEGMENTATION = Task(
    name="image-segmentation",
    pipeline="image-segmentation",
    summary="which pixels of an image belong to what",
    template="image.py",
    libraries=_LIBRARIES,
    inputs=(IMAGE,),
    outputs=(
        TensorSpec("masks", DataType.UINT8, (-1, -1, -1), "255 where a segment is, [segments, height, width]"),
        TensorSpec("scores", DataType.FP32, (-1,), "the score of each; 1 for semantic segmentation, which has none"),
        _LABELS,
        JSON_OUTPUT,
    ),
    parameters=(
        ParameterSpec("subtask", "str", "semantic, instance or panoptic"),
        _THRESHOLD,
        ParameterSpec("mask_threshold", "float", "from which value on a pixel belongs to a mask"),
        ParameterSpec("overlap_mask_area_threshold", "float", "drop segments mostly hidden by others"),
    ),
    max_batch_size=8,
    packages=(*_PACKAGES, "scipy"),
)

DEPTH_ESTIMATION = Task(
    name="depth-estimation",
    pipeline="depth-estimation",
    summary="how far away each pixel of an image is",
    template="image.py",
    libraries=_LIBRARIES,
    inputs=(IMAGE,),
    outputs=(
        TensorSpec("depth", DataType.FP32, (-1, -1), "the depth as the model says it, [height, width]"),
        TensorSpec("depth_image", DataType.UINT8, (-1, -1), "the same scaled to 0 ... 255"),
        JSON_OUTPUT,
    ),
    max_batch_size=8,
    packages=_PACKAGES,
)

TASKS = (
    IMAGE_CLASSIFICATION,
    VIDEO_CLASSIFICATION,
    IMAGE_FEATURE_EXTRACTION,
    OBJECT_DETECTION,
    IMAGE_SEGMENTATION,
    DEPTH_ESTIMATION,
)
