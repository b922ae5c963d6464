# Demonstrations rewritten by the target's mapper.
rule adapt_data:
    input:
        unpack(inputs("adapt_data")),
    output:
        manifest=f"{ROOT}/adapted/{{run}}/manifest.json",
        demonstrations=f"{ROOT}/adapted/{{run}}/demonstrations.jsonl",
        rewrites=f"{ROOT}/adapted/{{run}}/rewrites.parquet",
    log:
        f"{ROOT}/logs/adapt_data/{{run}}.log",
    wildcard_constraints:
        run=ids("adapt_data"),
    priority: 60
    conda:
        STAGE_ENV
    threads: 1
    resources:
        **needs("adapt_data"),
    params:
        version=runs.stage_version("adapt_data"),
        spec=spec("adapt_data"),
        folders=folders("adapt_data"),
    shell:
        "DART_GPU={resources.gpu} start {log} dart.stages.adapt_data --config {params.spec:q} {params.folders}"
