"""The nano world's word-level tokenizer: one token a word, sign or digit, saved like any Hugging Face tokenizer."""

from __future__ import annotations

import random
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from dart.sections import Prompts
from dart.world import texts

PAD, UNKNOWN, USER, ASSISTANT, END = "<|pad|>", "<|unknown|>", "<|user|>", "<|assistant|>", "<|end|>"
SPECIAL = (PAD, UNKNOWN, USER, ASSISTANT, END)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}<|user|>{{ message['content'] }}"
    "{% else %}<|assistant|>{{ message['content'] }}<|end|>{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WORD = r"####|//|==|\d|[^\W\d]+|[^\w\s]"
VOCABULARY_SEED, VOCABULARY_TEXTS = 0, 20_000


def word_tokenizer(prompts: Prompts) -> PreTrainedTokenizerFast:
    """Return the tokenizer of the nano world; its vocabulary is that of 20,000 texts of every kind."""
    rng = random.Random(VOCABULARY_SEED)
    kinds = [kind for kind in texts.KINDS for _ in range(VOCABULARY_TEXTS // len(texts.KINDS))]
    pairs = (texts.sample(kind, "equation", 1.0, prompts, rng) for kind in kinds)
    core = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    core.normalizer = normalizers.Replace(Regex(r"\s+"), " ")
    core.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True)
    core.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="\0", cleanup=False),  # joins by spaces; no word starts with the prefix
            decoders.Fuse(),
            decoders.Replace(Regex(r"(?<=\d) (?=\d)"), ""),  # digits of one number
            decoders.Replace(Regex(r" (?=[.,:;?)])|(?<=\() |(?<=[fgh]) (?=\()"), ""),
        ]
    )
    core.train_from_iterator(
        (text for pair in pairs for text in (pair.prompt, pair.completion)),
        trainers.WordLevelTrainer(special_tokens=list(SPECIAL), show_progress=False),
    )
    return wrap(core, CHAT_TEMPLATE)


def bpe_tokenizer(corpus: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE of at most ``size`` tokens learnt from ``corpus`` (for rehearsals on real text)."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(corpus, trainer)
    return wrap(core, CHAT_TEMPLATE)


def wrap(core: Tokenizer, chat_template: str) -> PreTrainedTokenizerFast:
    """Give a tokenizer its special tokens and chat template; the turn's end is the end of sequence."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        extra_special_tokens=[USER, ASSISTANT],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = chat_template
    return tokenizer
