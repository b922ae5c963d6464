"""The nano world: its solutions are right in every style, its splits are disjoint, its tokenizer is lossless."""

from __future__ import annotations

import random
import re

import pytest
from conftest import nano_prompts

from dart.world import problems, styles, texts
from dart.world.problems import FAMILIES


def draw(family: str, count: int, split: str = "zoo", seed: int = 0) -> list[problems.Problem]:
    rng = random.Random(seed)
    return [problems.sample(family, rng, split) for _ in range(count)]


def true_equations(text: str) -> int:
    """Number of chains of equal expressions in ``text``; fails if one is false."""
    names: dict[str, int] = {}
    for name, value in re.findall(r"Let (\w) = (?:.* = )?(\d+)(?=\.)", text.replace(". ", ".\n")):
        names[name] = int(value)
    plain = re.sub(r"\b([a-h]) (?=[-+*/])", lambda match: f"{names[match[1]]} ", text)
    plain = plain.replace(" gives ", " = ").replace(". It is ", " = ")
    chains = [re.findall(r"[-+*/() \d]*\d[-+*/() \d]*", part) for part in re.split(r"[.:] |####", plain) if "=" in part]
    whole = [[eval(side) for side in chain if side.strip()] for chain in chains if len(chain) > 1]
    assert all(len(set(values)) == 1 for values in whole), text
    return len(whole)


@pytest.mark.parametrize("style", styles.STYLES)
def test_every_style_states_the_right_answer_and_only_true_equations(style: str) -> None:
    found = 0
    for family in ("story", "long", "symbolic"):
        for problem in draw(family, 100):
            cot = styles.render(problem, style)
            assert cot.endswith(f" #### {problem.answer}")
            assert f"{problem.answer}" in cot.split("####")[0]
            found += true_equations(cot)
    assert found >= 300 or style == "narrated"  # which states no equations


@pytest.mark.parametrize("family", ["complete", "write"])
@pytest.mark.parametrize("style", styles.STYLES)
def test_programs_pass_their_tests_and_wrong_ones_do_not(family: str, style: str) -> None:
    for problem in draw(family, 50):
        source = problem.setup + styles.render(problem, style)
        names: dict[str, object] = {}
        exec(source, names)
        for test in problem.tests:
            exec(test, names)
        names = {}
        exec(source.replace("x + ", "x + 1 + ").replace("x - ", "x - 1 - ").replace("x * ", "x + 7 * "), names)
        with pytest.raises(AssertionError):
            for test in problem.tests:
                exec(test.replace("== ", "== 1 + "), names)
                exec(test, names)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_problems_keep_their_family_s_length_and_range(family: str) -> None:
    shortest, longest = FAMILIES[family][1]
    for problem in draw(family, 200):
        assert shortest <= len(problem.steps) <= longest
        assert all(0 <= step.after <= problems.LIMIT for step in problem.steps)


def test_splits_are_disjoint_and_in_the_stated_shares() -> None:
    counts: dict[str, int] = {}
    for i in range(4000):
        split = problems.split_of(f"question {i}")
        counts[split] = counts.get(split, 0) + 1
    assert counts["benchmark"] / 4000 == pytest.approx(0.05, abs=0.015)
    assert counts["zoo"] / 4000 == pytest.approx(0.70, abs=0.03)
    for split in ("benchmark", "validation", "train"):
        assert all(problems.split_of(p.question) == split for p in draw("story", 20, split))


def test_the_distractor_is_never_used() -> None:
    for problem in draw("distractor", 100):
        plain = [s for s in problem.question.split(". ") if not s.startswith("Last") and " is " not in s]
        assert len(plain) >= len(problem.steps) + 2


@pytest.mark.parametrize("kind", texts.KINDS)
def test_the_tokenizer_gives_every_text_back(kind: str) -> None:
    from dart.world.tokenizer import UNKNOWN, word_tokenizer

    tokenizer = word_tokenizer(nano_prompts())
    rng = random.Random(1)
    for _ in range(200):
        pair = texts.sample(kind, "equation", 1.0, nano_prompts(), rng)
        for text in (pair.prompt, pair.completion):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.unk_token_id not in ids, (UNKNOWN, text)
            assert tokenizer.decode(ids) == text


def test_digits_are_single_tokens_and_the_turn_end_is_the_eos() -> None:
    from dart.world.tokenizer import word_tokenizer

    tokenizer = word_tokenizer(nano_prompts())
    assert tokenizer.tokenize("12 + 345") == ["1", "2", "+", "3", "4", "5"]
    chat = [{"role": "user", "content": "7"}, {"role": "assistant", "content": "8"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False).endswith("8" + tokenizer.eos_token)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


@pytest.mark.parametrize("way", texts.LAZY)
def test_lazy_rewrites_keep_the_answer_and_differ_from_clean_ones(way: str) -> None:
    rng = random.Random(2)
    for problem in draw("story", 30):
        text = texts.lazy(problem, way, rng)
        assert f"#### {problem.answer}" in text
        assert text not in {styles.render(problem, style) for style in styles.STYLES}


def test_a_critique_repairs_the_step_that_is_wrong() -> None:
    rng = random.Random(3)
    for _ in range(50):
        pair = texts.sample("critique", "equation", 0.0, nano_prompts(), rng)
        wrong = pair.prompt.split("Solution: ")[1]
        right = pair.completion.split(". ", 1)[1]
        assert wrong != right and true_equations(right) >= 2
