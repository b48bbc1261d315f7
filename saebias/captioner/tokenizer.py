"""A small bilingual tokenizer: whole words of the captions, the Arabic feminine ending apart, single characters for everything else.

A word after a space carries the mark `▁`. Matching is longest first, so طباخة is `▁طباخ` + `##ة`, while دراجة (bicycle), whose ة marks no person, stays whole.
"""

from __future__ import annotations

import string

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from saebias.captioner.captions import GENDER_WORDS, VERBS, with_article
from saebias.captioner.spec import CaptionerSpec
from saebias.corpus.emoji import names_by_sequence
from saebias.identifiers import LANGUAGES

PAD, EOS, BOS, UNKNOWN, BEGIN_IMAGE, END_IMAGE, IMAGE = "<pad>", "<eos>", "<bos>", "<unk>", "<start_of_image>", "<end_of_image>", "<image_soft_token>"
SPECIAL_TOKENS = (PAD, EOS, BOS, UNKNOWN, BEGIN_IMAGE, END_IMAGE, IMAGE)
# The processor of Gemma 3 puts two line breaks before and after a picture; in its vocabulary they are one ordinary token.
LINE_BREAKS = "\n\n"
FEMININE_ENDING = "ة"
SPACE = "▁"
CONTINUED = "##"
ARABIC_CHARACTERS = "ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهوىيًٌٍَُِّْـ،؛؟٠١٢٣٤٥٦٧٨٩"


def caption_words(spec: CaptionerSpec) -> list[str]:
    """Every word of the spec's captions, the feminine nouns without their ending, in a fixed order."""
    phrases = ["a", "an", "beside", *GENDER_WORDS.values(), "بجانب", *VERBS.values()]
    for context in spec.contexts:
        phrases += [context.name, context.ar_M]
    for name, sequence in spec.objects:
        phrases += [with_article(name), names_by_sequence()[sequence][1]]
    return list(dict.fromkeys(word for phrase in phrases for word in phrase.split(" ")))


def build_tokenizer(spec: CaptionerSpec) -> PreTrainedTokenizerFast:
    """The tokenizer of `spec`: decode(encode(text)) is the text for anything written in Latin or Arabic letters, digits and ASCII punctuation."""
    characters = string.ascii_letters + string.digits + string.punctuation + ARABIC_CHARACTERS
    prompts = [word for language in LANGUAGES for word in spec.prompt(language).replace(":", " :").split(" ")]
    words = [*SPECIAL_TOKENS, LINE_BREAKS, CONTINUED + FEMININE_ENDING, *(SPACE + word for word in caption_words(spec))]
    words += [form for word in prompts for form in (word, SPACE + word)]
    words += [SPACE, *(mark + character for mark in ("", SPACE, CONTINUED) for character in (*characters, "\n"))]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN, continuing_subword_prefix=CONTINUED, max_input_chars_per_word=200))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(SPACE, prepend_scheme="never"), pre_tokenizers.Punctuation("isolated")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace(CONTINUED, ""), decoders.Metaspace(SPACE, prepend_scheme="never")])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(LINE_BREAKS, special=False, normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, vocabulary[BOS])])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNKNOWN,
        extra_special_tokens={"boi_token": BEGIN_IMAGE, "eoi_token": END_IMAGE, "image_token": IMAGE},
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=256,
    )
