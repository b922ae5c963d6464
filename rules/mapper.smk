# Mapper RL: one policy a target and seed.
rule train_mapper:
    input:
        unpack(inputs("train_mapper")),
    output:
        manifest=f"{ROOT}/mapper/{{run}}/manifest.json",
        metrics=f"{ROOT}/mapper/{{run}}/metrics.jsonl",
    log:
        f"{ROOT}/logs/train_mapper/{{run}}.log",
    wildcard_constraints:
        run=ids("train_mapper"),
    priority: 70
    conda:
        STAGE_ENV
    threads: 1
    resources:
        **needs("train_mapper"),
    params:
        version=runs.stage_version("train_mapper"),
        spec=spec("train_mapper"),
        folders=folders("train_mapper"),
    shell:
        "DART_GPU={resources.gpu} start {log} dart.stages.train_mapper --config {params.spec:q} {params.folders}"
