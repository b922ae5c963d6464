"""One format: a prompt's ids are a prefix of the training ids, and templates for which that fails are refused."""

from __future__ import annotations

import pytest
from conftest import nano_prompts

from dart import chat
from dart.errors import UserError
from dart.records import Record
from dart.training.loading import load_tokenizer

RECORD = Record("a", "math", "3 + 4 = ?", "7", cot="3 + 4 = 7 #### 7")
# What Qwen3's template does: an empty think block where thinking is off, a newline after the turn end.
QWEN3_LIKE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<|user|>{{ m['content'] }}"
    "{% else %}<|assistant|>?\n{{ m['content'].lstrip('\n') }}<|end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>"
    "{% if enable_thinking is defined and not enable_thinking %}?\n{% endif %}{% endif %}"
)


@pytest.fixture
def tokenizer(tiny_model_dir):
    return load_tokenizer(tiny_model_dir)


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_prompt_and_completion_make_the_whole_chat(tokenizer):
    messages = chat.solve_messages(nano_prompts(), RECORD)
    whole = [*messages, {"role": "assistant", "content": RECORD.cot}]
    found = chat.prompt_ids(tokenizer, messages) + chat.completion_ids(tokenizer, messages, RECORD.cot)
    assert found == tokenizer.apply_chat_template(whole, tokenize=True, return_dict=True)["input_ids"]
    assert tokenizer.unk_token_id not in found


def test_completion_ends_with_the_turn_end_and_nothing_else(tokenizer):
    tokenizer.chat_template = QWEN3_LIKE
    messages = chat.solve_messages(nano_prompts(), RECORD)
    assert chat.prompt_ids(tokenizer, messages) == ids(tokenizer, f"<|user|>{RECORD.question}<|assistant|>?\n")
    assert chat.completion_ids(tokenizer, messages, RECORD.cot) == [*ids(tokenizer, RECORD.cot), tokenizer.eos_token_id]


def test_rewrite_prompt_holds_question_and_cot(tokenizer):
    [message] = chat.rewrite_messages(nano_prompts(), RECORD)
    assert message == {"role": "user", "content": f"Rewrite. {RECORD.question} Solution: {RECORD.cot}"}


def test_braces_in_a_question_are_text():
    record = Record("a", "code", "return {x: {cot}} or {question}", cot="SECRET")
    [message] = chat.rewrite_messages(nano_prompts(), record)
    assert message["content"] == "Rewrite. return {x: {cot}} or {question} Solution: SECRET"


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        (QWEN3_LIKE.replace("<|assistant|>?\n{{", "<|assistant|>{{"), "not a prefix of the training text"),
        (QWEN3_LIKE.replace("<|end|>\n", "\n"), "does not end the assistant's turn with the eos token"),
        (None, "has no chat template"),
    ],
)
def test_unusable_templates_are_refused(tokenizer, template, sentence):
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=sentence):
        chat.completion_ids(tokenizer, chat.solve_messages(nano_prompts(), RECORD), RECORD.cot)
