"""The reward's arithmetic against numbers worked out by hand, and that cheap texts do not win it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from conftest import nano_prompts

from dart import chat
from dart.config import load
from dart.errors import UserError
from dart.records import Record
from dart.reward.alignment import TargetScore, TargetScorer, normalised, raw_alignment
from dart.reward.detectors import DETECTORS
from dart.reward.reward import RewardModel, combine
from dart.sections import Reward
from dart.training.loading import load_model, load_tokenizer

BASE = load(["configs/base.yaml", "configs/arms.yaml", "configs/nano.yaml"]).mapper.reward
RECORD = Record(
    "r",
    "math",
    "Ann has 12 apples. Ann buys 5 more. Ann then has 2 times as many. How many apples does Ann have?",
    answer="34",
    cot="Let a = 12. Let b = a + 5 = 17. Let c = b * 2 = 34. #### 34",
)
GOOD = "12 + 5 = 17. 17 * 2 = 34. #### 34"


def settings(**changes) -> Reward:
    return BASE.model_copy(update=changes)


def weights(**changes) -> Reward:
    return settings(penalties=BASE.penalties.model_copy(update=dict.fromkeys(DETECTORS, 0.0) | changes))


class FixedTarget(torch.nn.Module):
    """A causal model that gives each next token a fixed log-probability, by token id, whatever came before."""

    def __init__(self, logps_V: torch.Tensor) -> None:
        super().__init__()
        self.config = type("Config", (), {"vocab_size": len(logps_V)})()
        self.logps_V = logps_V
        self.device = torch.device("cpu")
        self.base_model = self._hidden
        self.rows = 0
        self.eval()

    def _hidden(self, input_ids, use_cache):
        self.rows += len(input_ids)
        return type("Output", (), {"last_hidden_state": torch.zeros(*input_ids.shape, 1)})()

    def get_output_embeddings(self):
        return lambda hidden_NH: self.logps_V.expand(len(hidden_NH), -1)


@pytest.fixture(scope="module")
def tokenizer(tiny_model_dir):
    return load_tokenizer(tiny_model_dir)


def target_with(tokenizer, probabilities: dict[str, float]) -> FixedTarget:
    """A target that gives the named words these probabilities and shares the rest equally."""
    size = len(tokenizer)
    rest = (1 - sum(probabilities.values())) / (size - len(probabilities))
    p_V = torch.full((size,), rest)
    for word, probability in probabilities.items():
        p_V[tokenizer.convert_tokens_to_ids(word)] = probability
    return FixedTarget(p_V.log())


# --- alignment ---

SCORES = [
    TargetScore(4, 0.5, -1.0),
    TargetScore(2, 0.8, -0.3),
    TargetScore(9, 0.1, -40.0),
    TargetScore(1, 0.9, -0.1, True),
]
ORIGINALS = [
    TargetScore(5, 0.3, -1.5),
    TargetScore(5, 0.3, -1.5),
    TargetScore(5, 0.3, -2.0),
    TargetScore(5, 0.3, -50.0),
]


def test_raw_alignments_by_hand():
    floor = -5.0
    assert raw_alignment("mean_prob", SCORES, None, floor) == ([0.5, 0.8, 0.1, 0.0], [0.0] * 4)
    assert raw_alignment("mean_logprob", SCORES, None, floor) == ([-1.0, -0.3, -5.0, -5.0], [-5.0] * 4)
    gain, least = raw_alignment("gain_over_original", SCORES, ORIGINALS, floor)
    assert gain == pytest.approx([0.5, 1.2, -3.0, 0.0])  # the last: floor - floor
    assert least == pytest.approx([-3.5, -3.5, -3.0, 0.0])


def test_normalisation_by_hand():
    values, floors = [1.0, 3.0, 10.0, 10.0], [0.0] * 4
    assert normalised("none", values, floors, 2) == (values, floors)
    assert normalised("batch_minmax", values, floors, 2)[0] == pytest.approx([0.0, 2 / 9, 1.0, 1.0])
    scaled, least = normalised("group", values, floors, 2)
    assert scaled == pytest.approx([-1.0, 1.0, 0.0, 0.0])  # the second group is all equal
    assert least == [-1.0] * 4
    assert normalised("batch_minmax", [2.0, 2.0], [0.0, 0.0], 2)[0] == [1.0, 1.0]


# --- gate and sum ---


def test_combination_by_hand():
    cheats = {name: [0.0, 0.0] for name in DETECTORS} | {"length": [0.5, 0.0], "repetition": [1.0, 1.0]}
    knobs = weights(length=0.4, repetition=0.3)
    total, penalty = combine(knobs, [0.8, 0.6], [0.0, 0.0], [1.0, 0.0], cheats)
    assert penalty == pytest.approx([0.5, 0.3])
    assert total == pytest.approx([0.8 - 0.5, 0.0 - 0.3])
    additive = knobs.model_copy(update={"gate": "additive", "gate_weight": 2.0})
    assert combine(additive, [0.8, 0.6], [0.0, 0.0], [1.0, 0.0], cheats)[0] == pytest.approx([2.3, 0.3])
    free = knobs.model_copy(update={"gate": "none"})
    assert combine(free, [0.8, 0.6], [0.0, 0.0], [1.0, 0.0], cheats)[0] == pytest.approx([0.3, 0.3])


@pytest.mark.parametrize("align", ["mean_prob", "mean_logprob", "gain_over_original"])
@pytest.mark.parametrize("normalise", ["none", "group", "batch_minmax"])
def test_behind_the_gate_a_wrong_answer_never_beats_a_right_one(align, normalise):
    values, floors = raw_alignment(align, SCORES, [ORIGINALS[0]] * 4, -5.0)
    values, floors = normalised(normalise, values, floors, 4)
    nothing = {name: [0.0] * 4 for name in DETECTORS}
    knobs = settings(align=align, normalise=normalise)
    right = combine(knobs, values, floors, [1.0] * 4, nothing)[0]
    wrong = combine(knobs, values, floors, [0.0] * 4, nothing)[0]
    assert max(wrong) <= min(right)


# --- the whole, on a target with known probabilities ---


def test_components_by_hand(tokenizer):
    target = target_with(tokenizer, {"1": 0.5, "+": 0.1})
    text = "1 + 1 #### 34"
    model = RewardModel(target, tokenizer, nano_prompts(), weights(missing_answer=1.0, length=0.25), 2)
    scores = model([RECORD], [text], group_size=1)
    rest = 0.4 / (len(tokenizer) - 2)
    # Tokens: 1 + 1 #### 3 4 <end>
    assert scores.tokens == [7]
    assert scores.mean_prob == pytest.approx([(0.5 + 0.1 + 0.5 + 4 * rest) / 7])
    assert scores.logprob == pytest.approx([(2 * math.log(0.5) + math.log(0.1) + 4 * math.log(rest)) / 7], rel=1e-5)
    assert scores.align == scores.mean_prob and scores.correct == [1.0]
    assert scores.cheats["length"] == [1.0]  # three words are no reasoning
    assert scores.penalty == [0.25]
    assert scores.total == pytest.approx([scores.align[0] - 0.25])
    original = len(tokenizer(RECORD.cot, add_special_tokens=False)["input_ids"]) + 1
    assert scores.length_ratio == pytest.approx([7 / original])
    prompt = chat.prompt_ids(tokenizer, chat.solve_messages(nano_prompts(), RECORD))
    assert scores.tokens_scored == len(prompt) + 7


def test_gain_over_original_sees_the_original_and_the_students_prompt_only(tokenizer):
    target = target_with(tokenizer, {"Let": 0.3})
    prompts = nano_prompts().model_copy(update={"solve": "{question}"})
    model = RewardModel(target, tokenizer, prompts, weights().model_copy(update={"align": "gain_over_original"}), 4)
    scores = model([RECORD, RECORD], [GOOD, RECORD.cot], group_size=2)
    scorer = TargetScorer(target, tokenizer, prompts, 4)
    rewrite, original = scorer([RECORD, RECORD], [GOOD, RECORD.cot])
    floor = -math.log(len(tokenizer))
    assert scores.align[0] == pytest.approx(max(floor, rewrite.mean_logprob) - original.mean_logprob)
    assert scores.align[1] == pytest.approx(0.0, abs=1e-6)
    assert scores.copy_ratio[1] == 1.0 and scores.length_ratio[1] == 1.0


def test_equal_texts_are_scored_once_a_call_and_nothing_is_kept_between_calls(tokenizer):
    target = target_with(tokenizer, {})
    scorer = TargetScorer(target, tokenizer, nano_prompts(), 8)
    found = scorer([RECORD] * 3, [GOOD, GOOD, RECORD.cot])
    assert target.rows == 2 and found[0] == found[1] != found[2]
    scorer([RECORD], [GOOD])
    assert target.rows == 3


def test_empty_text_gets_the_least_alignment_however_likely_the_turn_end(tokenizer):
    target = target_with(tokenizer, {tokenizer.eos_token: 0.99})
    for align in ("mean_prob", "mean_logprob", "gain_over_original"):
        knobs = settings(align=align, gate="none")
        scores = RewardModel(target, tokenizer, nano_prompts(), knobs, 4)([RECORD] * 2, ["", GOOD], 2)
        assert scores.total[0] < scores.total[1]
        assert scores.align[0] <= scores.align[1]


def test_non_finite_values_are_refused(tokenizer):
    target = target_with(tokenizer, {})
    target.logps_V[tokenizer.convert_tokens_to_ids("+")] = float("nan")
    with pytest.raises(UserError, match="completion of r is not finite"):
        RewardModel(target, tokenizer, nano_prompts(), BASE, 4)([RECORD], [GOOD], 1)
    healthy = target_with(tokenizer, {})
    broken = BASE.model_copy(update={"penalties": BASE.penalties.model_copy(update={"missing_answer": math.inf})})
    with pytest.raises(UserError, match="penalty for a rewrite of r is"):
        RewardModel(healthy, tokenizer, nano_prompts(), broken, 4)([RECORD], ["no answer"], 1)


def test_completions_must_come_in_whole_groups(tokenizer):
    model = RewardModel(target_with(tokenizer, {}), tokenizer, nano_prompts(), BASE, 4)
    with pytest.raises(ValueError, match="3 completions are not groups of 2"):
        model([RECORD] * 3, [GOOD] * 3, 2)


# --- what must never happen ---

FILLER = "17 * 2 = 34. " * 8 + "#### 34"
CHEAP = {
    "repetitive filler": FILLER,
    "answer only": "#### 34",
    "answer first": "The answer is 34. 12 + 5 = 17. 17 * 2 = 34.",
    "question copied": RECORD.question + " #### 34",
    "false step": "12 + 5 = 18. 17 * 2 = 34. #### 34",
}


@pytest.mark.parametrize("name", CHEAP)
def test_cheap_texts_do_not_win_even_when_the_target_likes_them_better(tokenizer, name):
    """The target finds every word of the cheap text likely; likelihood alone prefers it, the reward must not."""
    loved = set(tokenizer.tokenize(CHEAP[name])) | {tokenizer.eos_token}
    target = target_with(tokenizer, dict.fromkeys(loved, 0.9 / len(loved)))
    texts = [GOOD, CHEAP[name]]
    scores = RewardModel(target, tokenizer, nano_prompts(), BASE, 4)([RECORD] * 2, texts, 2)
    assert scores.correct == [1.0, 1.0]
    assert scores.penalty[0] == 0.0 and scores.penalty[1] >= 0.5
    assert scores.total[1] < scores.total[0]


def test_without_penalty_the_filler_wins(tokenizer):
    """The ablation shows what the penalty is for: the same filler is what a likelihood reward prefers."""
    loved = set(tokenizer.tokenize("17 * 2 = 34."))
    target = target_with(tokenizer, dict.fromkeys(loved, 0.95 / len(loved)))
    scores = RewardModel(target, tokenizer, nano_prompts(), weights(), 4)([RECORD] * 2, [GOOD, FILLER], 2)
    assert scores.total[1] > scores.total[0]


def test_batch_size_does_not_matter_with_a_real_model(tiny_model_dir, tokenizer):
    target = load_model(tiny_model_dir)
    texts = [GOOD, FILLER, "", RECORD.cot, *CHEAP.values()]
    records = [replace(RECORD, id=str(i)) for i in range(len(texts))]
    one, many = (RewardModel(target, tokenizer, nano_prompts(), BASE, size)(records, texts, 1) for size in (1, 16))
    assert one.total == pytest.approx(many.total, abs=1e-5)
