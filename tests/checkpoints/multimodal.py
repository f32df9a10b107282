"""Checkpoints of models that relate images or sounds to text."""

# transformers takes more than its annotations say.
# mypy: disable-error-code="no-untyped-call, call-arg, arg-type, attr-defined, union-attr, operator"

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    CLIPVisionConfig,
    DonutProcessor,
    DonutSwinConfig,
    DonutSwinModel,
    GitConfig,
    GitForCausalLM,
    GitProcessor,
    LayoutLMConfig,
    LayoutLMForQuestionAnswering,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    MBartConfig,
    MBartForCausalLM,
    OwlViTConfig,
    OwlViTForObjectDetection,
    OwlViTProcessor,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    SiglipConfig,
    SiglipModel,
    SiglipProcessor,
    VisionEncoderDecoderModel,
    WhisperFeatureExtractor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.donut.image_processing_pil_donut import DonutImageProcessorPil
from transformers.models.owlvit.image_processing_pil_owlvit import OwlViTImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from . import tokenization
from .audio import RATE
from .text import llama_config, save_generator
from .weights import randomise

_TOWER: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_SQUARE = {"height": 32, "width": 32}


def zero_shot_image_classification_clip(directory: Path) -> None:
    tokenizer = tokenization.clip(max_length=48)
    config = CLIPConfig(
        text_config={
            **_TOWER,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 48,
            "projection_dim": 32,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={**_TOWER, "image_size": 32, "patch_size": 8, "projection_dim": 32},
        projection_dim=32,
    )
    model = CLIPModel(config)
    randomise(model)
    model.save_pretrained(directory)
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=_SQUARE)
    CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(directory)


def zero_shot_image_classification_siglip(directory: Path) -> None:
    """Scores each label by itself (a sigmoid); the pipeline pads text for it to 64 tokens."""
    tokenizer = tokenization.unigram(max_length=64)
    config = SiglipConfig(
        text_config={
            **_TOWER,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 64,
            "projection_size": 32,
            "bos_token_id": 1,
            "eos_token_id": 1,
            "pad_token_id": 1,
        },
        vision_config={**_TOWER, "image_size": 32, "patch_size": 8},
    )
    model = SiglipModel(config)
    randomise(model)
    model.logit_scale.data.fill_(2.0)
    model.logit_bias.data.fill_(-1.0)
    model.save_pretrained(directory)
    images = SiglipImageProcessorPil(size=_SQUARE)
    SiglipProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(directory)


def zero_shot_object_detection_owlvit(directory: Path) -> None:
    tokenizer = tokenization.clip(max_length=16)
    tokenizer.pad_token = "!"
    config = OwlViTConfig(
        text_config={
            **_TOWER,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 16,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={**_TOWER, "image_size": 32, "patch_size": 8},
        projection_dim=32,
    )
    model = OwlViTForObjectDetection(config)
    randomise(model)
    model.save_pretrained(directory)
    images = OwlViTImageProcessorPil(size=_SQUARE, crop_size=_SQUARE)
    OwlViTProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(directory)


def document_question_answering_layoutlm(directory: Path) -> None:
    """Finds the answer among words and boxes that the caller brings; the image itself is not looked at."""
    tokenizer = tokenization.bert(max_length=128)
    config = LayoutLMConfig(vocab_size=len(tokenizer), **_TOWER, max_position_embeddings=128)
    model = LayoutLMForQuestionAnswering(config)
    randomise(model, gain=1.5)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def document_question_answering_donut(directory: Path) -> None:
    """Reads the image itself and generates the answer."""
    tokenizer = tokenization.roberta()
    tokenizer.add_tokens(["<s_docvqa>", "<s_question>", "</s_question>", "<s_answer>", "</s_answer>"])
    encoder = DonutSwinModel(
        DonutSwinConfig(image_size=[32, 32], patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 4], window_size=4)
    )
    decoder = MBartForCausalLM(
        MBartConfig(
            vocab_size=len(tokenizer),
            d_model=32,
            decoder_layers=2,
            decoder_attention_heads=4,
            decoder_ffn_dim=64,
            max_position_embeddings=64,
            pad_token_id=1,
            bos_token_id=0,
            eos_token_id=2,
            is_decoder=True,
            add_cross_attention=True,
            add_final_layer_norm=True,
            scale_embedding=False,
        )
    )
    model = VisionEncoderDecoderModel(encoder=encoder, decoder=decoder)
    for config in (model.config, model.generation_config):
        config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 0, 1, 2
    # The pipeline reads what stands before the tag that ends an answer.
    model.generation_config.forced_eos_token_id = tokenizer.convert_tokens_to_ids("</s_answer>")
    save_generator(directory, model, tokenizer)
    images = DonutImageProcessorPil(size=_SQUARE, do_thumbnail=True, do_align_long_axis=False, do_pad=True)
    DonutProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(directory)
    card = "---\npipeline_tag: document-question-answering\n---\n"  # its architecture may also be a captioner's
    (directory / "README.md").write_text(card, encoding="utf-8")


def image_text_to_text_llava(directory: Path) -> None:
    """A vision tower in front of a chat model: takes conversations with images."""
    tokenizer = tokenization.chat(extra_tokens=["<image>"])
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**_TOWER, image_size=32, patch_size=8),
        text_config=llama_config(tokenizer),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
        vision_feature_select_strategy="default",
        vision_feature_layer=-1,
    )
    model = LlavaForConditionalGeneration(config)
    save_generator(directory, model, tokenizer)
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=_SQUARE),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=tokenization.CHAT_TEMPLATE,
        image_token="<image>",
        num_additional_image_tokens=1,
    )
    processor.save_pretrained(directory)


def image_text_to_text_git(directory: Path) -> None:
    """A captioner without a chat template: takes an image and the beginning of its caption."""
    tokenizer = tokenization.bert(token_types=False)
    config = GitConfig(
        vision_config={**_TOWER, "image_size": 32, "patch_size": 8},
        **_TOWER,
        vocab_size=len(tokenizer),
        max_position_embeddings=64,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    save_generator(directory, GitForCausalLM(config), tokenizer)
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=_SQUARE)
    GitProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(directory)


def any_to_any_qwen2_audio(directory: Path) -> None:
    """A model of sound and text: of this task's models, those that see images or videos need torchvision."""
    tokenizer = tokenization.chat(extra_tokens=["<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"])
    mels, seconds = 16, 2
    config = Qwen2AudioConfig(
        audio_config={
            "num_mel_bins": mels,
            "d_model": 32,
            "encoder_layers": 1,
            "encoder_attention_heads": 4,
            "encoder_ffn_dim": 64,
            "max_source_positions": seconds * 50,
        },
        text_config={**llama_config(tokenizer).to_dict(), "model_type": "qwen2"},
        audio_token_index=tokenizer.convert_tokens_to_ids("<|AUDIO|>"),
    )
    model = Qwen2AudioForConditionalGeneration(config)
    save_generator(directory, model, tokenizer)
    extractor = WhisperFeatureExtractor(feature_size=mels, sampling_rate=RATE, chunk_length=seconds)
    processor = Qwen2AudioProcessor(
        feature_extractor=extractor, tokenizer=tokenizer, chat_template=tokenization.CHAT_TEMPLATE
    )
    processor.save_pretrained(directory)
