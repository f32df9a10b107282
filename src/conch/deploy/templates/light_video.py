"""Videos to pictures, with PyAV alone."""

from __future__ import annotations

import io

import av
import numpy as np
from PIL import Image


def read_frames(data: bytes, count: int, every: int = 1) -> list[Image.Image]:
    """`count` RGB pictures spread evenly over the first `count` times `every` frames of an encoded video.

    Fewer if the video is shorter.

    Raises:
        ValueError: it is none, or no picture is asked for.
    """
    if count < 1 or every < 1:
        raise ValueError(f"num_frames and frame_sampling_rate should be at least 1, got {count} and {every}")
    wanted = set(np.linspace(0, count * every - 1, num=count, dtype=np.int64).tolist())
    pictures: list[Image.Image] = []
    try:
        with av.open(io.BytesIO(data)) as container:
            if not container.streams.video:
                raise ValueError("it has no pictures")
            for number, frame in enumerate(container.decode(video=0)):
                if number in wanted:
                    pictures.append(Image.fromarray(frame.to_ndarray(format="rgb24")))
                if len(pictures) == count:
                    break
    except (av.FFmpegError, ValueError) as error:
        expected = f"expected MP4, WebM, ..., got {len(data)} bytes"
        raise ValueError(f"cannot decode the video: {expected}: {error}") from error
    return pictures
