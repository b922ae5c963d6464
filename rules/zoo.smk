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
    # All targets wait for the others, and everything for the expert that writes the original CoT.
    priority: lambda wildcards: 92 if wildcards.run == CONFIG.expert else 91 - (wildcards.run in CONFIG.targets)
    conda:
        "../envs/dart.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=120,
    params:
        version=runs.stage_version("train_zoo"),
        spec=spec("train_zoo"),
        folders=folders("train_zoo"),
    shell:
        "start {log} dart.stages.train_zoo --config {params.spec:q} {params.folders}"
