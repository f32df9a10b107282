"""The light video part gives the pixels of transformers' video-classification pipeline."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from conch.deploy.split.parts import CannotSplit
from tests.checkpoints import samples
from tests.unit.deploy.stand_in import LocalModel
from tests.unit.deploy.templates.part import file_rows, load_part

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
av = pytest.importorskip("av")
split_video = pytest.importorskip("conch.deploy.split.video")
videomae = pytest.importorskip("transformers.models.videomae.image_processing_pil_videomae")

FRAMES = 4


def pipe_of(**options: Any) -> Any:
    """The library's pipeline around a network that is never asked."""
    pipe = transformers.VideoClassificationPipeline.__new__(transformers.VideoClassificationPipeline)
    processor = videomae.VideoMAEImageProcessorPil(**options)
    model = SimpleNamespace(config=SimpleNamespace(num_frames=FRAMES), dtype=torch.float32)
    pipe.__dict__.update(image_processor=processor, video_processor=None, model=model)
    return pipe


def video(directory: Path, frames: int, size: tuple[int, int] = (64, 48)) -> Path:
    path = directory / f"{frames}x{size[0]}.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for turn in range(frames):
            picture = np.asarray(samples.image(*size).rotate(5 * turn))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def video_part(directory: Path, pipe: Any, *videos: Path) -> LocalModel:
    own, contents = split_video.video_files(pipe, videos)
    settings = {"task": "video-classification", **{key: value for key, value, _ in own}}
    settings["request_parameters"] = "top_k:int num_frames:int frame_sampling_rate:int function_to_apply:str"
    outputs = {"pixel_values": f"TYPE_FP32 {FRAMES} 3 32 32"}
    return load_part(directory, "process_video.py", {"video": "TYPE_STRING 1"}, outputs, settings, contents)


@pytest.fixture(scope="module")
def pipe() -> Any:
    return pipe_of(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


@pytest.mark.parametrize("parameters", [{}, {"frame_sampling_rate": 3}], ids=str)
def test_pixels_are_those_of_the_pipeline(parameters: dict[str, int], pipe: Any, tmp_path: Path) -> None:
    videos = [video(tmp_path, 14), video(tmp_path, 16, (80, 120))]
    part = video_part(tmp_path, pipe, *videos)
    got = part.ask({"video": file_rows(*(path.read_bytes() for path in videos))}, {"top_k": 2, **parameters})
    for row, path in enumerate(videos):
        (expected,) = pipe.preprocess(str(path), **parameters)["pixel_values"].numpy()
        np.testing.assert_allclose(got["pixel_values"][row], expected, atol=1e-5)


def test_videos_that_give_too_few_pictures_fail_alone_and_say_why(pipe: Any, tmp_path: Path) -> None:
    good, short = video(tmp_path, 8), video(tmp_path, 3)
    sound = io.BytesIO()
    with av.open(sound, "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
    part = video_part(tmp_path, pipe, good)
    rows = [good.read_bytes(), short.read_bytes(), b"no video at all", sound.getvalue(), b"#EXTM3U\nfile.ts"]
    first, *failed = part.execute([part.request({"video": file_rows(each)}) for each in rows])
    assert isinstance(first, dict)
    reasons = (
        "the model looks at 4 frames, got 3",
        "cannot decode the video",
        "it has no pictures",
        "a list that points",
    )
    for outcome, reason in zip(failed, reasons, strict=True):
        assert reason in str(outcome)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [({"num_frames": 2}, "the model looks at 4 frames, got 2"), ({"frame_sampling_rate": 0}, "should be at least 1")],
)
def test_other_numbers_of_frames_are_refused(
    parameters: dict[str, int], reason: str, pipe: Any, tmp_path: Path
) -> None:
    path = video(tmp_path, 8)
    part = video_part(tmp_path, pipe, path)
    (outcome,) = part.execute([part.request({"video": file_rows(path.read_bytes())}, parameters)])
    assert reason in str(outcome)


def test_processors_of_their_own_are_refused_with_the_reason(pipe: Any, tmp_path: Path) -> None:
    chooses = pipe_of()
    chooses.video_processor = object()
    with pytest.raises(CannotSplit, match="object chooses frames itself"):
        split_video.video_files(chooses, [])

    class Darker(videomae.VideoMAEImageProcessorPil):  # type: ignore[misc, name-defined]
        def __call__(self, images: Any, **options: Any) -> Any:
            made = super().__call__(images, **options)
            if len(images) > 1:
                made["pixel_values"] = made["pixel_values"] - 0.01
            return made

    other = pipe_of()
    other.image_processor = Darker(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    with pytest.raises(CannotSplit, match="makes other pixels of a video than light code"):
        split_video.video_files(other, [video(tmp_path, 8)])
