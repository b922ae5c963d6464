"""The settings handed to TRL's ``GRPOTrainer``: every default that affects results is written out."""

from __future__ import annotations

from typing import Any

import torch
from trl import GRPOConfig

from dart import engines
from dart.errors import UserError
from dart.sections import EngineName, Grpo
from dart.stage import Context
from dart.training.arguments import one_device, rows_per_device, shared_arguments


def rollout_arguments(engine: EngineName, length: int) -> dict[str, Any]:
    """How TRL samples rollouts of at most ``length`` tokens, prompt included.

    With transformers, or with vLLM in the training process (TRL's colocate mode), which needs a GPU: its first weight
    sync fails on a CPU. The vLLM branch has been read against TRL 1.16 and its arguments are tested, but it has not
    been run.

    vLLM computes in bfloat16, so TRL weighs each token by the ratio of its probability in training to that in vLLM, cut
    at 3; TRL's default would drop a whole completion whose *product* of ratios is above 3, most long ones.
    """
    if engine == "transformers":
        return {"use_vllm": False}
    engines.check_installed(engine)
    if not torch.cuda.is_available():
        raise UserError("engines.rl is vllm, which samples rollouts on a GPU only; take a GPU, or set transformers.")
    return {
        "use_vllm": True,
        "vllm_mode": "colocate",
        "vllm_model_impl": "vllm",
        "vllm_tensor_parallel_size": 1,  # every rank has its own engine
        "vllm_enable_sleep_mode": False,
        "vllm_gpu_memory_utilization": engines.prepare_vllm(),
        "vllm_max_model_length": length,  # else the model's own, tens of thousands
        "vllm_importance_sampling_correction": True,
        "vllm_importance_sampling_mode": "token_truncate",
        "vllm_importance_sampling_clip_max": 3.0,
        "vllm_importance_sampling_clip_min": None,
    }


def training_arguments(grpo: Grpo, seed: int, context: Context, generation: dict[str, Any]) -> GRPOConfig:
    """Return TRL's arguments, every default that affects results written out; ``generation`` says how to sample."""
    rollouts = grpo.prompts_per_step * grpo.completions_per_prompt
    part = rows_per_device(context, rollouts, f"the {rollouts} completions of a step", grpo.gradient_accumulation)
    check_shares(grpo, context)
    arguments = GRPOConfig(
        **shared_arguments(
            context,
            steps=grpo.steps,
            seed=seed,
            learning_rate=grpo.learning_rate,
            schedule=grpo.schedule,
            warmup_steps=grpo.warmup_steps,
            decay_steps=0,
            weight_decay=grpo.weight_decay,
            max_grad_norm=grpo.max_grad_norm,
            save_steps=grpo.save_steps,
        ),
        per_device_train_batch_size=part,
        gradient_accumulation_steps=grpo.gradient_accumulation,
        # One generation a step: a checkpoint then never lies inside a generation cycle, where resume is not exact.
        steps_per_generation=grpo.gradient_accumulation,
        num_iterations=1,
        num_generations=grpo.completions_per_prompt,
        shuffle_dataset=False,
        max_completion_length=grpo.sampling.max_new_tokens,
        temperature=grpo.sampling.temperature,
        top_p=grpo.sampling.top_p,
        top_k=grpo.sampling.top_k,
        min_p=None,
        repetition_penalty=1.0,
        chat_template_kwargs={"enable_thinking": False},
        loss_type=grpo.loss_type,
        scale_rewards=grpo.scale_rewards,
        beta=grpo.beta,
        epsilon=grpo.epsilon,
        epsilon_high=grpo.epsilon,
        delta=None,
        importance_sampling_level="token",
        use_bias_correction_kl=True,
        sync_ref_model=False,
        off_policy_mask_threshold=None,
        multi_objective_aggregation="sum_then_normalize",
        mask_truncated_completions=False,
        top_entropy_quantile=1.0,
        entropy_coef=0.0,
        disable_dropout=False,
        **generation,
        log_completions=True,
        num_completions_to_print=0,
    )
    return one_device(arguments)


def check_shares(grpo: Grpo, context: Context) -> None:
    """Refuse what several processes would compute otherwise than one."""
    if grpo.prompts_per_step % context.world_size:
        raise UserError(
            f"{context.world_size} processes (the rule's gpu) cannot share prompts_per_step "
            f"{grpo.prompts_per_step} in whole groups; choose a number of processes that divides it."
        )
    if context.world_size > 1 and grpo.loss_type == "bnpo":
        raise UserError(
            "loss_type bnpo averages over each process's own tokens, not over those of the step; "
            "choose dapo, or one process (the rule's gpu)."
        )
