"""One format: the token ids of a prompt and of a completion, for SFT, RL, scoring and evaluation alike.

A prompt is a chat of one user turn that ends where the assistant starts to write; a completion is the assistant's text
and the turn-end token. Trained ids are always prompt ids + completion ids, which is also what generation produces.
"""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from dart.errors import UserError
from dart.records import Record
from dart.sections import Prompts

Messages = list[dict[str, str]]
Asked = tuple[Record, list[int]]  # a record, and the ids of the prompt that is put to a model for it
PROBE = "7"  # an assistant text that no template rewrites (Qwen3's strips newlines and splits at </think>)


def solve_messages(prompts: Prompts, record: Record) -> Messages:
    """Return the chat that asks a model to solve ``record``, or to criticise its wrong ``attempt``."""
    if record.attempt:
        return _asked(prompts, prompts.critique, record, record.attempt)
    return _asked(prompts, prompts.solve, record)


def rewrite_messages(prompts: Prompts, record: Record) -> Messages:
    """Return the chat that asks a mapper to rewrite the chain of thought of ``record``."""
    return _asked(prompts, prompts.rewrite, record, record.cot)


def bridge_messages(prompts: Prompts, record: Record) -> Messages:
    """Return the chat that asks the expert to rewrite the chain of thought of ``record`` for a smaller model."""
    return _asked(prompts, prompts.bridge, record, record.cot)


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> list[int]:
    """Return the ids up to where the assistant's text starts (thinking switched off where the template knows it)."""
    return encode(tokenizer, prompt_text(tokenizer, messages))


def prompt_text(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> str:
    """Return the text whose ids :func:`prompt_ids` gives."""
    return _render(tokenizer, messages, prompt=True)


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Return the ids of ``text`` and nothing else: the template writes all special tokens."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def completion_ids(tokenizer: PreTrainedTokenizerBase, messages: Messages, text: str) -> list[int]:
    """Return the ids of the assistant's ``text`` and the turn-end token.

    What a template writes after the turn end (Qwen3: a newline) is left out, as no model generates it.

    Raises
    ------
    UserError
        When the prompt is not a prefix of the whole chat, or the assistant's turn does not end with the tokenizer's eos
        token: training on such ids would teach another format than the one that is evaluated.
    """
    _check_prefix(tokenizer, prompt_text(tokenizer, messages), _render(tokenizer, _answered(messages), prompt=False))
    return [*encode(tokenizer, text), tokenizer.eos_token_id]


def _asked(prompts: Prompts, template: str, record: Record, cot: str = "") -> Messages:
    # Not str.format: questions and programs are full of braces, and a question must not fill {cot}.
    form = prompts.math_form if record.kind == "math" else prompts.code_form
    parts = [part.replace("{form}", form).replace("{cot}", cot) for part in template.split("{question}")]
    return [{"role": "user", "content": record.question.join(parts)}]


def _answered(messages: Messages) -> Messages:
    return [*messages, {"role": "assistant", "content": PROBE}]


def _render(tokenizer: PreTrainedTokenizerBase, messages: Messages, prompt: bool) -> str:
    if not tokenizer.chat_template:
        raise UserError(
            f"The tokenizer of {tokenizer.name_or_path} has no chat template; use a chat model's tokenizer."
        )
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt, enable_thinking=False)
    return str(text)


def _check_prefix(tokenizer: PreTrainedTokenizerBase, prompt: str, whole: str) -> None:
    if not whole.startswith(prompt):
        raise UserError(
            f"The chat template of {tokenizer.name_or_path} is not usable: its generation prompt is not a prefix of "
            "the training text; give the tokenizer one whose assistant turn starts as its generation prompt ends."
        )
    if not whole[len(prompt) :].startswith(PROBE + tokenizer.eos_token):
        raise UserError(
            f"The chat template of {tokenizer.name_or_path} does not end the assistant's turn with the eos token "
            f"{tokenizer.eos_token!r}; set eos_token in its tokenizer_config.json to the token that ends a turn."
        )
