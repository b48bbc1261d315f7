"""Small bilingual tokenizers with the special tokens of every family."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TEXT = ["a woman cook with a ball", "a man cook with a car", "describe the picture", "طباخة مع كرة", "طباخ مع سيارة", "صف الصورة"]
SPECIAL = {
    "bos": "<bos>",
    "eos": "<eos>",
    "pad": "<pad>",
    "unk": "<unk>",
    "image": "<image>",
    "boi": "<start_of_image>",
    "eoi": "<end_of_image>",
    "video": "<video>",
    "python": "<|python_tag|>",
    "fake": "<fake_token_around_image>",
    "global": "<global-img>",
    "utterance": "<end_of_utterance>",
    **{f"tile{row}{column}": f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)},
}


def byte_tokenizer(*, with_bos: bool) -> Any:
    core = Tokenizer(models.BPE(unk_token=SPECIAL["unk"]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=list(SPECIAL.values()), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    core.train_from_iterator(TEXT * 4, trainer)
    if with_bos:
        bos = SPECIAL["bos"]
        core.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, core.token_to_id(bos))])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=SPECIAL["bos"],
        eos_token=SPECIAL["eos"],
        pad_token=SPECIAL["pad"],
        unk_token=SPECIAL["unk"],
        extra_special_tokens={
            "image_token": SPECIAL["image"],
            "boi_token": SPECIAL["boi"],
            "eoi_token": SPECIAL["eoi"],
            "video_token": SPECIAL["video"],
        },
    )
    # A stand-in for the templates of instruction-tuned models: it writes its own beginning-of-text token, as Gemma's does.
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}<user>{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}IMAGE_SLOT{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}{{ '\n' }}{% endfor %}{{ '<model>\n' }}"
    )
    return tokenizer


def dummy_prefix_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer like Llama's first one: it puts a space before every text."""
    core = Tokenizer(models.BPE(unk_token=SPECIAL["unk"]))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    core.decoder = decoders.Metaspace(prepend_scheme="always")
    core.train_from_iterator(
        [f"{text}\n" for text in TEXT] * 4, trainers.BpeTrainer(vocab_size=200, special_tokens=list(SPECIAL.values()), show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token=SPECIAL["bos"], eos_token=SPECIAL["eos"], unk_token=SPECIAL["unk"])
