# Several graded answers of a model to every training question.
rule pass_rate:
    input:
        unpack(inputs("pass_rate")),
    output:
        manifest=f"{ROOT}/rollouts/{{run}}/manifest.json",
        rollouts=f"{ROOT}/rollouts/{{run}}/rollouts.parquet",
    log:
        f"{ROOT}/logs/pass_rate/{{run}}.log",
    wildcard_constraints:
        run=ids("pass_rate"),
    priority: 45
    conda:
        STAGE_ENV
    threads: 1
    resources:
        **needs("pass_rate"),
    params:
        version=runs.stage_version("pass_rate"),
        spec=spec("pass_rate"),
        folders=folders("pass_rate"),
    shell:
        "DART_GPU={resources.gpu} start {log} dart.stages.pass_rate --config {params.spec:q} {params.folders}"


# Demonstrations under a frozen model, token by token.
rule score_data:
    input:
        unpack(inputs("score_data")),
    output:
        manifest=f"{ROOT}/scored/{{run}}/manifest.json",
        scores=f"{ROOT}/scored/{{run}}/scores.parquet",
    log:
        f"{ROOT}/logs/score_data/{{run}}.log",
    wildcard_constraints:
        run=ids("score_data"),
    priority: 45
    conda:
        STAGE_ENV
    threads: 1
    resources:
        **needs("score_data"),
    params:
        version=runs.stage_version("score_data"),
        spec=spec("score_data"),
        folders=folders("score_data"),
    shell:
        "DART_GPU={resources.gpu} start {log} dart.stages.score_data --config {params.spec:q} {params.folders}"


# Demonstrations or questions chosen by pass rate or by score.
rule select_data:
    input:
        unpack(inputs("select_data")),
    output:
        manifest=f"{ROOT}/selected/{{run}}/manifest.json",
        demonstrations=f"{ROOT}/selected/{{run}}/demonstrations.jsonl",
    log:
        f"{ROOT}/logs/select_data/{{run}}.log",
    wildcard_constraints:
        run=ids("select_data"),
    priority: 45
    conda:
        STAGE_ENV
    threads: 1
    resources:
        **needs("select_data"),
    params:
        version=runs.stage_version("select_data"),
        spec=spec("select_data"),
        folders=folders("select_data"),
    shell:
        "start {log} dart.stages.select_data --config {params.spec:q} {params.folders}"


# Hard demonstrations reworked by the expert: bridges and critiques.
rule rework_data:
    input:
        unpack(inputs("rework_data")),
    output:
        manifest=f"{ROOT}/reworked/{{run}}/manifest.json",
        demonstrations=f"{ROOT}/reworked/{{run}}/demonstrations.jsonl",
    log:
        f"{ROOT}/logs/rework_data/{{run}}.log",
    wildcard_constraints:
        run=ids("rework_data"),
    priority: 45
    conda:
        STAGE_ENV
    threads: 1
    resources:
        **needs("rework_data"),
    params:
        version=runs.stage_version("rework_data"),
        spec=spec("rework_data"),
        folders=folders("rework_data"),
    shell:
        "DART_GPU={resources.gpu} start {log} dart.stages.rework_data --config {params.spec:q} {params.folders}"
