# Models trained from scratch; one may start from another.
rule train_zoo:
    input:
        unpack(inputs("train_zoo")),
    output:
        manifest=f"{ROOT}/models/{{run}}/manifest.json",
    log:
        f"{ROOT}/logs/train_zoo/{{run}}.log",
    wildcard_constraints:
        run=ids("train_zoo"),
    priority: lambda wildcards: 90 if wildcards.run in CONFIG.targets else 91  # all targets wait for the others
    conda:
        STAGE_ENV
    threads: 1
    resources:
        **needs("train_zoo"),
    params:
        version=runs.stage_version("train_zoo"),
        spec=spec("train_zoo"),
        folders=folders("train_zoo"),
    shell:
        "start {log} dart.stages.train_zoo --config {params.spec:q} {params.folders}"
