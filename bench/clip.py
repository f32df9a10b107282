"""A CLIP of ViT-B/32's size with random weights, deployed as a pipeline: `python -m bench.clip REPOSITORY`.

Speed does not depend on what the weights are; the tokenizer is that of examples/shapes-clip. Writes the model `clip`
and `clip-input.json`, a request (one drawing, three labels) for perf_analyzer's --input-data.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
import tempfile
from pathlib import Path

SHAPES_CLIP = Path(__file__).parent.parent / "examples" / "shapes-clip"
LABELS = ("a red circle", "a blue square", "a green triangle")
INPUT_FILE = "clip-input.json"


def save_checkpoint(directory: Path) -> None:
    """A CLIPModel of the default (ViT-B/32) size and its processor."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer

    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(SHAPES_CLIP)
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    CLIPModel(CLIPConfig(text_config=special, **special)).save_pretrained(directory)
    CLIPProcessor(CLIPImageProcessorPil(), tokenizer).save_pretrained(directory)


def save_input(path: Path) -> None:
    """The request, as perf_analyzer reads it."""
    picture = base64.b64encode((SHAPES_CLIP / "samples" / "blue-square.jpg").read_bytes()).decode()
    request = {
        "image": {"content": [picture], "shape": [1]},
        "text": {"content": list(LABELS), "shape": [len(LABELS)]},
    }
    path.write_text(json.dumps({"data": [request]}))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.clip", description=__doc__.split("\n")[0])
    parser.add_argument("repository", type=Path)
    repository = parser.parse_args().repository
    with tempfile.TemporaryDirectory(prefix="clip-") as scratch:
        checkpoint = Path(scratch) / "checkpoint"
        save_checkpoint(checkpoint)
        deploy = ["deploy", str(checkpoint), "--task=zero-shot-image-classification", "--name=clip", "--force"]
        subprocess.run([sys.executable, "-m", "conch", *deploy, f"--model-repository={repository}"], check=True)
    save_input(repository.parent / INPUT_FILE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
