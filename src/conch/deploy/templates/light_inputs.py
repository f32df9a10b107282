"""From the tensors of a request to texts, images and sounds. Pillow, soundfile and soxr are loaded where they serve."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image


def one_text(array: np.ndarray) -> str:
    """The only element of a BYTES tensor."""
    return bytes(array.reshape(-1)[0]).decode()


def all_texts(array: np.ndarray) -> list[str]:
    """All elements of a BYTES tensor but empty ones at its end: they pad rows of a batch to one length."""
    found = [bytes(element).decode() for element in array.reshape(-1)]
    while found and not found[-1]:
        found.pop()
    if not found:
        raise ValueError("expected at least one text that is not empty")
    return found


def one_image(array: np.ndarray) -> Image.Image:
    """The only image of a tensor: an encoded file (BYTES [1]) or pixels [height, width, channels]."""
    images = all_images(array)
    if len(images) != 1:
        raise ValueError(f"expected one image, got {len(images)}")
    return images[0]


def all_images(array: np.ndarray) -> list[Image.Image]:
    """RGB images, upright, of encoded files (BYTES) or of pixels [.., height, width, channels], values 0 to 255."""
    if array.dtype == object:
        return [decode_image(file_bytes(element)) for element in array.reshape(-1) if len(element)]
    from PIL import Image

    if array.ndim < 3 or array.shape[-1] not in (1, 3, 4):
        raise ValueError(f"pixels should have the shape [height, width, channels (1, 3 or 4)], got {list(array.shape)}")
    pixels = array.reshape(-1, *array.shape[-3:])
    if pixels.dtype != np.uint8:
        pixels = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return [Image.fromarray(one.squeeze(-1) if one.shape[-1] == 1 else one).convert("RGB") for one in pixels]


def image_pair(array: np.ndarray) -> list[Image.Image]:
    """The two images of a tensor."""
    images = all_images(array)
    if len(images) != 2:
        raise ValueError(f"expected two images, got {len(images)}")
    return images


def labelled_image(row: dict[str, np.ndarray]) -> tuple[Image.Image, list[str]]:
    """`image` and the texts in `text`."""
    return one_image(row["image"]), all_texts(row["text"])


def one_table(row: dict[str, np.ndarray]) -> dict[str, Any]:
    """`query` about a `table` (JSON: column -> its cells)."""
    return {"table": json.loads(one_text(row["table"])), "query": one_text(row["query"])}


def one_document(row: dict[str, np.ndarray]) -> dict[str, Any]:
    """`question` about a page: its `image`, its `word_boxes` (JSON), or both."""
    document: dict[str, Any] = {"question": one_text(row["question"])}
    if "image" in row:
        document["image"] = one_image(row["image"])
    if "word_boxes" in row:
        document["word_boxes"] = json.loads(one_text(row["word_boxes"]))
    if len(document) == 1:
        raise ValueError("expected at least one of the inputs `image` and `word_boxes`")
    return document


def decode_request(row: dict[str, np.ndarray]) -> dict[str, Any]:
    """Questions about a state; of what the state shows, images that the request brings."""
    request = json.loads(one_text(row["request"]))
    for name, asset in request.get("assets", {}).items():  # images, never addresses or files
        if not isinstance(asset, dict) or "data_base64" not in asset:
            raise ValueError(f'asset {name!r} should be {{"data_base64": ...}}')
        request["assets"][name] = one_image(np.array([base64.b64decode(asset["data_base64"])], object))
    return request


def decode_image(data: bytes) -> Image.Image:
    """An image file as RGB pixels, turned as its camera says."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else str(error)
        raise ValueError(
            f"cannot decode the image: expected JPEG, PNG, WebP, ..., got {len(data)} bytes: {reason}"
        ) from error


def file_bytes(element: bytes) -> bytes:
    """The file in a BYTES element: as it is, or as base64 text (JSON cannot carry bytes)."""
    data = bytes(element)
    if not data.isascii():
        return data
    try:
        return base64.b64decode(data.partition(b",")[2] if data.startswith(b"data:") else data, validate=True)
    except ValueError:
        return data


def one_video(row: dict[str, Any]) -> bytes:
    """The encoded video `video` BYTES [1] of a row."""
    data = file_bytes(row["video"].reshape(-1)[0])
    if data.lstrip().startswith((b"#EXTM3U", b"ffconcat")):
        raise ValueError("expected an encoded video, got a list that points to other files")
    return data


@contextmanager
def video_file(data: bytes) -> Iterator[str]:
    """The path of a video's file: pipelines read videos from files."""
    with NamedTemporaryFile(suffix=".video") as file:
        file.write(data)
        file.flush()
        yield file.name


def all_sounds(row: dict[str, Any], sampling_rate: int) -> list[np.ndarray]:
    """The sounds of `audio` as `one_audio` reads them; empty files pad the rows of a request."""
    if "audio" not in row:
        return []
    parts = [part for part in row["audio"] if len(part)] if row["audio"].dtype == object else [row["audio"]]
    return [one_audio({**row, "audio": part}, sampling_rate) for part in parts]


def one_audio(row: dict[str, Any], sampling_rate: int) -> np.ndarray:
    """Mono samples at the model's rate, of an encoded file (`audio` BYTES [1]) or of samples and `sampling_rate`."""
    audio = row["audio"]
    if isinstance(audio, bytes) or audio.dtype == object:
        import soundfile

        data = file_bytes(audio if isinstance(audio, bytes) else audio.reshape(-1)[0])
        try:
            samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
        except (RuntimeError, OSError) as error:
            expected = f"expected WAV, FLAC, OGG or MP3, got {len(data)} bytes"
            raise ValueError(f"cannot decode the audio: {expected}: {str(error).rpartition(': ')[2]}") from error
        samples = samples.mean(axis=1)
    else:
        samples = audio.astype(np.float32)
        rate = int(row["sampling_rate"].reshape(-1)[0]) if "sampling_rate" in row else sampling_rate
    if not samples.size or rate <= 0:
        raise ValueError(f"the audio is empty or its rate is wrong: {samples.size} samples at {rate} Hz")
    if rate != sampling_rate:
        import soxr

        samples = soxr.resample(samples, rate, sampling_rate)
    return np.asarray(samples, np.float32)
