"""Models of the hub become the zoo's: as they are but for three things, and every lack is told in one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError
from transformers import AutoModelForCausalLM, GenerationConfig

from dart.manifest import read_manifest
from dart.stage import stage_main
from dart.stages import fetch_model
from dart.training.loading import load_model, load_tokenizer

COMMIT = "c" * 40
DATED = (
    "{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y %f') %}{%- endif %}"
    "<|user|>{{ date_string }} {% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'user' %}<|assistant|>{% else %}<|end|>{% endif %}{% endfor %}"
)


@pytest.fixture
def hub_copy(tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local copy of ``makers/small``: a model in half precision whose makers sample with top_k 20."""
    folder = tmp_path / "copies/small"
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.bfloat16)
    model.generation_config = GenerationConfig(do_sample=True, top_k=20, repetition_penalty=1.1, temperature=0.6)
    model.save_pretrained(folder)
    load_tokenizer(tiny_model_dir).save_pretrained(folder)
    monkeypatch.setenv("DART_MODELS", str(folder.parent))
    return folder


def fetch(out: Path, **changes: Any) -> int:
    spec = {"labels": {"model": "small"}, "repo": "makers/small", "revision": COMMIT, "pad_token": None} | changes
    argv = ["--config", json.dumps(spec), "--out", str(out), "--scratch", str(out.parent / "scratch")]
    return stage_main(fetch_model.STAGE, argv)


def refused(out: Path, capsys: pytest.CaptureFixture[str], **changes: Any) -> str:
    """What a user is told instead of getting the model: one sentence, and no manifest."""
    assert fetch(out, **changes) == 2 and not (out / "manifest.json").exists()
    said = capsys.readouterr().err.strip()
    assert "\n" not in said and said.startswith("fetch_model: ")
    return said


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes), encoding="utf-8")


def test_a_model_is_ready_for_every_stage(hub_copy: Path, tmp_path: Path) -> None:
    assert fetch(tmp_path / "out") == 0
    folder = tmp_path / "out/model"
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    given = AutoModelForCausalLM.from_pretrained(hub_copy, dtype=torch.float32).state_dict()
    assert all(torch.equal(value, given[name]) for name, value in model.state_dict().items())
    assert AutoModelForCausalLM.from_pretrained(folder, dtype="auto").dtype == torch.bfloat16
    assert tokenizer.chat_template == load_tokenizer(hub_copy).chat_template
    defaults = json.loads((folder / "generation_config.json").read_text())
    assert not {"top_k", "repetition_penalty", "temperature", "do_sample"} & set(defaults)
    assert (defaults["eos_token_id"], defaults["pad_token_id"]) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    result = read_manifest(tmp_path / "out").result
    assert result["source"] == str(hub_copy) and result["precision"] == "bfloat16" and result["pad_token"] == "<|pad|>"
    assert result["parameters"] == sum(value.numel() for value in model.parameters())
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(result["files"])
    assert all(len(digest) == 64 for digest in result["files"].values())


def test_padding_must_not_hide_the_turn_end(hub_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(hub_copy / "tokenizer_config.json", pad_token="<|end|>")
    said = refused(tmp_path / "out", capsys)
    assert "the tokenizer of makers/small has no pad token of its own; set pad_token to one of its reserved" in said
    assert "has no token '<|spare|>' to pad with" in refused(tmp_path / "out", capsys, pad_token="<|spare|>")
    assert fetch(tmp_path / "out", pad_token="<|unknown|>") == 0
    assert load_tokenizer(tmp_path / "out/model").pad_token == "<|unknown|>"
    assert load_model(tmp_path / "out/model").config.pad_token_id == load_tokenizer(tmp_path / "out/model").unk_token_id


def test_a_template_that_tells_the_date_tells_a_fixed_one(hub_copy: Path, tmp_path: Path) -> None:
    (hub_copy / "chat_template.jinja").write_text(DATED, encoding="utf-8")
    asked = [{"role": "user", "content": "3 + 4"}]
    today = load_tokenizer(hub_copy).apply_chat_template(asked, tokenize=False)
    assert fetch(tmp_path / "out") == 0
    told = load_tokenizer(tmp_path / "out/model").apply_chat_template(asked, tokenize=False)
    assert told == "<|user|>26 Jul 2024 3 + 4<|assistant|>" != today


def test_a_tokenizer_of_another_model_is_refused(
    hub_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(hub_copy / "config.json", eos_token_id=0)
    assert "makers/small: its tokenizer ends a turn with id" in refused(tmp_path / "out", capsys)
    edit(hub_copy / "config.json", eos_token_id=[0, load_tokenizer(hub_copy).eos_token_id])
    assert fetch(tmp_path / "out") == 0
    model = load_model(hub_copy)
    model.resize_token_embeddings(20)
    model.save_pretrained(hub_copy)
    edit(hub_copy / "config.json", eos_token_id=load_tokenizer(hub_copy).eos_token_id)
    assert "ids beyond the model's 20 embeddings" in refused(tmp_path / "other", capsys)


def test_an_incomplete_copy(hub_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (hub_copy / "chat_template.jinja").unlink()
    assert "has no chat template; use a chat model's tokenizer" in refused(tmp_path / "out", capsys)
    (hub_copy / "config.json").write_text("{}", encoding="utf-8")
    assert "holds no usable copy of makers/small" in refused(tmp_path / "out", capsys)
    (hub_copy / "model.safetensors").unlink()
    assert "has no *.safetensors, the weights of makers/small" in refused(tmp_path / "out", capsys)
    shutil.rmtree(hub_copy)
    assert f"DART_MODELS names {hub_copy.parent}, which lacks the folder small" in refused(tmp_path / "out", capsys)


def test_a_full_disk_is_told_before_anything_is_loaded(
    hub_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fetch_model, "AutoModelForCausalLM", None)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(fetch_model.shutil, "disk_usage", lambda _: usage._replace(free=5_000_000))
    assert "is on a disk with 5 MB free; free space" in refused(tmp_path / "out", capsys)
    monkeypatch.setattr("dart.stage.FREE_BYTES", 0)
    monkeypatch.setattr(fetch_model.shutil, "disk_usage", lambda _: usage._replace(free=5))
    assert "0.0 GB free, and the model takes 0.0 GB; free space" in refused(tmp_path / "out", capsys)


def test_a_disk_that_fills_up_is_told_in_one_sentence(
    hub_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetch_model, "save_model", full)
    assert refused(tmp_path / "out", capsys).startswith("fetch_model: The disk is full; free space and run again")
    monkeypatch.setattr(fetch_model, "save_model", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fetch(tmp_path / "out")


def response(status: int) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("GET", "https://hub"))


HUB = {
    "gated": (GatedRepoError("no", response=response(403)), "makers/small is gated: accept its licence on its page"),
    "offline": (LocalEntryNotFoundError("no"), "at cccccccc cannot be had from the Hugging Face hub (neither network"),
    "full": (OSError(28, "No space left on device"), "The disk is full while makers/small at cccccccc is fetched"),
}


@pytest.mark.parametrize("case", HUB)
def test_what_the_hub_refuses_is_told_in_one_sentence(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error, sentence = HUB[case]
    asked: list[Any] = []

    def download(repo: str, revision: str, allow_patterns: list[str]) -> str:
        asked.append((repo, revision))
        raise error

    monkeypatch.delenv("DART_MODELS", raising=False)
    monkeypatch.setattr(fetch_model, "snapshot_download", download)
    assert sentence in refused(tmp_path / "out", capsys) and asked == [("makers/small", COMMIT)]
    assert "has no pinned revision; `python -m dart.pin`" in refused(tmp_path / "out", capsys, revision="")
    assert len(asked) == 1
