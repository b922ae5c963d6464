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
        STAGE_ENV
    threads: 1
    resources:
        **needs("train_zoo"),
    params:
        version=runs.stage_version("train_zoo"),
        spec=spec("train_zoo"),
        folders=folders("train_zoo"),
    shell:
        "DART_GPU={resources.gpu} start {log} dart.stages.train_zoo --config {params.spec:q} {params.folders}"


# Models from the hub, at their pinned revisions.
rule fetch_model:
    output:
        manifest=f"{ROOT}/models/{{run}}/manifest.json",
    log:
        f"{ROOT}/logs/fetch_model/{{run}}.log",
    wildcard_constraints:
        run=ids("fetch_model"),
    priority: 90
    conda:
        STAGE_ENV
    threads: 1
    resources:
        **needs("fetch_model"),
    params:
        version=runs.stage_version("fetch_model"),
        spec=spec("fetch_model"),
        folders=folders("fetch_model"),
    shell:
        "start {log} dart.stages.fetch_model --config {params.spec:q} {params.folders}"
