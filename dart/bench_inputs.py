"""What ``dart.bench_gpu`` works on: a model of a known architecture with random weights, and made-up texts.

Nothing is downloaded; the stages read the folder as they would read that of finished stages.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from dart import config
from dart.records import Record, write_records
from dart.sections import Architecture
from dart.stages.train_mapper import TrainMapperSpec
from dart.stages.train_sft import TrainSftSpec
from dart.training.loading import save_model
from dart.world.tokenizer import CHAT_TEMPLATE, SPECIAL, UNKNOWN, wrap
from dart.zoo_model import build_model

CONFIGS = Path(__file__).parents[1] / "configs"
COPIES = 8  # completions of a question


@dataclass(frozen=True)
class Size:
    """What is measured: a model, rows of a step and of a forward pass, tokens of a row.

    ``questions`` x ``COPIES`` completions make a step of RL, ``rows`` demonstrations one of SFT; a forward pass takes
    ``part`` rows of them.
    """

    name: str
    architecture: Architecture
    vocabulary: int
    questions: int
    rows: int
    part: int
    tokens: int


# https://huggingface.co/Qwen/Qwen3-0.6B config.json; 596,049,920 parameters
TRUE = Size(
    "Qwen3-0.6B",
    Architecture(
        hidden_size=1024,
        intermediate_size=3072,
        layers=28,
        heads=16,
        kv_heads=8,
        head_dim=128,
        max_positions=40_960,
        rope_theta=1e6,
    ),
    vocabulary=151_936,
    questions=16,
    rows=64,
    part=16,
    tokens=512,
)
TINY = Size(
    "tiny",
    Architecture(
        hidden_size=32,
        intermediate_size=64,
        layers=2,
        heads=2,
        kv_heads=1,
        head_dim=16,
        max_positions=512,
        rope_theta=1e4,
    ),
    vocabulary=256,
    questions=2,
    rows=4,
    part=4,
    tokens=16,
)


def tokenizer_of(size: Size) -> PreTrainedTokenizerFast:
    """Return a tokenizer of made-up words that fills the whole vocabulary."""
    words = [*SPECIAL, *(f"w{index}" for index in range(size.vocabulary - len(SPECIAL)))]
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return wrap(core, CHAT_TEMPLATE)


def prepare(size: Size, folder: Path, repetitions: int) -> dict[str, Path]:
    """Write the model and the demonstrations and return the folder of each input of the stages."""
    tokenizer = tokenizer_of(size)
    save_model(build_model(size.architecture, tokenizer, seed=0), tokenizer, folder / "model")
    rng = random.Random(0)

    def text(words: int) -> str:
        return " ".join(f"w{rng.randrange(size.vocabulary - len(SPECIAL))}" for _ in range(words))

    records = [
        Record(f"q{index}", "math", text(size.tokens // 4), answer="1", cot=text(size.tokens))
        for index in range(size.rows * (repetitions + 1))
    ]
    write_records(folder / "demonstrations.jsonl", records)
    return dict.fromkeys(("model", "data", "cot", "mapper", "target"), folder)


def specs(size: Size, repetitions: int) -> tuple[TrainMapperSpec, TrainSftSpec]:
    """Return the specs of one step more than is counted: the first one warms up."""
    base = config.load([CONFIGS / name for name in ("base.yaml", "arms.yaml", "nano.yaml")])
    steps = repetitions + 1
    sampling = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": size.tokens}
    mapper, sft = base.mapper.model_dump(), base.sft.model_dump()
    mapper["grpo"] |= {"steps": steps, "prompts_per_step": size.questions, "completions_per_prompt": COPIES}
    mapper["grpo"] |= {"gradient_accumulation": size.questions * COPIES // size.part, "sampling": sampling}
    mapper["grpo"] |= {"save_steps": 10_000, "export_at": [], "learning_rate": 1e-6}
    mapper["scoring_batch"] = size.part
    sft |= {"batch_size": size.rows, "gradient_accumulation": size.rows // size.part, "epochs": 1, "export_at": []}
    sft |= {"save_steps": 10_000, "learning_rate": 1e-6, "loss": "nll"}
    prompts = base.prompts.model_dump()
    return (
        TrainMapperSpec.model_validate({"prompts": prompts, "mapper": mapper}),
        TrainSftSpec.model_validate({"prompts": prompts, "sft": sft, "file": "demonstrations.jsonl"}),
    )
