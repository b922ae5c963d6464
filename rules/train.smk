# A target trained on demonstrations: any arm whose trainer is sft.
rule train_sft:
    input:
        unpack(inputs("train_sft")),
    output:
        manifest=f"{ROOT}/runs/{{run}}/manifest.json",
        metrics=f"{ROOT}/runs/{{run}}/metrics.jsonl",
    log:
        f"{ROOT}/logs/train_sft/{{run}}.log",
    wildcard_constraints:
        run=ids("train_sft"),
    priority: 40
    conda:
        STAGE_ENV
    threads: 1
    resources:
        **needs("train_sft"),
    params:
        version=runs.stage_version("train_sft"),
        spec=spec("train_sft"),
        folders=folders("train_sft"),
    shell:
        "DART_GPU={resources.gpu} start {log} dart.stages.train_sft --config {params.spec:q} {params.folders}"


# A target trained by RL on the same questions: any arm whose trainer is rl.
rule train_rl:
    input:
        unpack(inputs("train_rl")),
    output:
        manifest=f"{ROOT}/runs/{{run}}/manifest.json",
        metrics=f"{ROOT}/runs/{{run}}/metrics.jsonl",
    log:
        f"{ROOT}/logs/train_rl/{{run}}.log",
    wildcard_constraints:
        run=ids("train_rl"),
    priority: 50
    conda:
        STAGE_ENV
    threads: 1
    resources:
        **needs("train_rl"),
    params:
        version=runs.stage_version("train_rl"),
        spec=spec("train_rl"),
        folders=folders("train_rl"),
    shell:
        "DART_GPU={resources.gpu} start {log} dart.stages.train_rl --config {params.spec:q} {params.folders}"
