"""Original CoT: rejection on the verified answer, human rationales, resume after a kill."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from conftest import nano_prompts

from dart import manifest, rejection
from dart.engines import Completion, transformers_engine
from dart.errors import UserError
from dart.journal import Journal
from dart.records import Record, read_records, write_records
from dart.stage import run_stage
from dart.stages import generate_cot

RECORDS = [
    Record(f"q{i}", "math", f"Ann has {i} apples. Ann buys 5 more. How many apples does Ann have?", answer=str(i + 5))
    for i in range(7)
]


def finish(folder):
    """Make a folder look like that of a finished stage."""
    folder.mkdir(exist_ok=True, parents=True)
    fields = dict.fromkeys(manifest.Manifest.__dataclass_fields__, 0) | {"fingerprint": "0" * 64}
    manifest.write_manifest(folder, manifest.Manifest(**fields))
    return folder


@pytest.fixture
def folders(tmp_path, tiny_model_dir):
    data = finish(tmp_path / "data")
    write_records(data / "train.jsonl", RECORDS)
    (finish(tmp_path / "expert") / "model").symlink_to(tiny_model_dir)
    return tmp_path


def spec(**cot):
    values = {"source": "expert", "attempts": 3, "batch_size": 1}
    sampling = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 8}
    return {"seed": 4, "prompts": nano_prompts().model_dump(), "cot": values | {"sampling": sampling} | cot}


def run(folders, out="out", model=True, **cot):
    arguments = ["--config", json.dumps(spec(**cot)), "--data", str(folders / "data"), "--out", str(folders / out)]
    arguments += ["--scratch", str(folders / "scratch")] + (["--model", str(folders / "expert")] if model else [])
    run_stage(generate_cot.STAGE, arguments)
    return manifest.read_manifest(folders / out), read_records(folders / out / "demonstrations.jsonl")


class Expert:
    """Stands in for ``generate``: question i is answered right from attempt i on, counting from 1; 0 never."""

    def __init__(self, tokenizer_text=None, truncated=()):
        self.asked: dict[int, int] = {}
        self.truncated = truncated
        self.calls = 0

    def __call__(self, model, tokenizer, prompts, sampling, samples, seed, batch_size, on_batch):
        self.calls += 1
        out = []
        for prompt in prompts:
            number = int(tokenizer.decode(prompt).split("has ")[1].split(" apples")[0])
            attempt = self.asked[number] = self.asked.get(number, 0) + 1
            right = 0 < number <= attempt
            answer = number + 5 if right else 99
            cut = attempt in self.truncated
            out.append([Completion(f" {number} + 5 = {answer}. attempt {attempt} #### {answer}", [1] * 10, cut)])
        return out


def test_the_first_verified_attempt_is_kept(folders, monkeypatch):
    expert = Expert()
    monkeypatch.setattr(transformers_engine, "generate", expert)
    found, kept = run(folders)
    assert [record.id for record in kept] == ["q1", "q2", "q3"]
    for number, record in enumerate(kept, start=1):
        assert record.cot == f"{number} + 5 = {number + 5}. attempt {number} #### {number + 5}"
        assert record == replace(RECORDS[number], cot=record.cot)
    assert expert.asked == {0: 3, 1: 1, 2: 2, 3: 3, 4: 3, 5: 3, 6: 3}  # no more attempts than needed
    assert found.result == {"source": "expert", "asked": 7, "kept": 3, "acceptance": 3 / 7, "samples": 18}
    assert found.tokens_generated == 180 and found.tokens_scored > 0 and found.flops > 0


def test_a_truncated_text_is_rejected_even_when_its_answer_is_right(folders, monkeypatch):
    monkeypatch.setattr(transformers_engine, "generate", Expert(truncated=(1, 2)))
    _, kept = run(folders)
    assert all("attempt 3" in record.cot for record in kept) and len(kept) == 3


def test_human_rationales_are_verified(folders):
    told = [replace(RECORDS[0], cot="0 + 5 = 5. #### 5"), replace(RECORDS[1], cot="1 + 5 = 7. #### 7"), RECORDS[2]]
    write_records(folders / "data" / "train.jsonl", told)
    found, kept = run(folders, model=False, source="human")
    assert kept == [told[0]] and found.result["kept"] == 1 and found.tokens_generated == 0


def test_an_expert_without_a_right_answer_is_an_error_in_words(folders, monkeypatch):
    monkeypatch.setattr(transformers_engine, "generate", Expert(truncated=(1, 2, 3)))
    with pytest.raises(UserError, match="None of the 7 questions got a chain of thought"):
        run(folders)
    assert not (folders / "out" / "manifest.json").exists()


def test_a_missing_expert_is_an_error_in_words(folders):
    with pytest.raises(UserError, match="no --model is given"):
        run(folders, model=False)


def test_an_interrupted_run_continues_and_ends_the_same(folders, monkeypatch):
    monkeypatch.setattr(generate_cot, "BLOCK_BATCHES", 2)  # four blocks of two questions
    monkeypatch.setattr(transformers_engine, "generate", Expert())
    expected, expected_kept = run(folders, "undisturbed")
    add = Journal.add

    def killed(self, block):
        add(self, block)
        if len(self.blocks) == 2:
            self.path.write_text(self.path.read_text() + '{"texts": ["to', encoding="utf-8")  # torn by the kill
            raise KeyboardInterrupt

    expert = Expert()
    monkeypatch.setattr(transformers_engine, "generate", expert)
    monkeypatch.setattr(Journal, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        run(folders)
    before = dict(expert.asked)
    assert set(before) == {0, 1, 2, 3}
    monkeypatch.setattr(Journal, "add", add)
    found, kept = run(folders)
    assert kept == expected_kept and found.result == expected.result
    assert {number: expert.asked[number] for number in before} == before  # nothing was asked again
    assert found.tokens_generated == expected.tokens_generated and found.resumed == 1


def test_real_sampling_is_reproducible_and_every_attempt_has_its_own_seed(folders, monkeypatch):
    monkeypatch.setattr(generate_cot, "BLOCK_BATCHES", 4)  # two blocks
    seeds = record_seeds(monkeypatch)
    monkeypatch.setattr(rejection, "verify_many", lambda records, texts: [accept(seeds)] * len(texts))
    assert run(folders, "one")[1] == run(folders, "two")[1]
    assert len(seeds) == 12 and seeds[:6] == seeds[6:] and len(set(seeds)) == 6


def accept(seeds):
    """A verdict that is right in the last of the three attempts only."""
    return type("Verdict", (), {"correct": len(seeds) % 3 == 0})


def record_seeds(monkeypatch):
    """Let ``generate`` run, note its seeds, and have every completion end by itself."""
    seeds = []
    generate = transformers_engine.generate

    def recorded(model, tokenizer, prompts, sampling, samples, seed, batch_size, on_batch):
        seeds.append(seed)
        groups = generate(model, tokenizer, prompts, sampling, samples, seed, batch_size, on_batch)
        return [[replace(completion, truncated=False) for completion in group] for group in groups]

    monkeypatch.setattr(transformers_engine, "generate", recorded)
    return seeds
