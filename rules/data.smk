# Questions of the world, or real ones, with the benchmarks.
rule make_data:
    input:
        unpack(inputs("make_data")),
    output:
        manifest=f"{ROOT}/data/manifest.json",
        train=f"{ROOT}/data/train.jsonl",
    log:
        f"{ROOT}/logs/make_data.log",
    priority: 100
    conda:
        STAGE_ENV
    threads: 1
    resources:
        **needs("make_data"),
    params:
        version=runs.stage_version("make_data"),
        spec=spec("make_data"),
        folders=folders("make_data"),
    shell:
        "start {log} dart.stages.make_data --config {params.spec:q} {params.folders}"
