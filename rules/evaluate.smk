# Every benchmark on a trained model and its kept checkpoints, or on a base target.
rule evaluate:
    input:
        unpack(inputs("evaluate")),
    output:
        manifest=f"{ROOT}/scores/{{run}}/manifest.json",
        scores=f"{ROOT}/scores/{{run}}/scores.json",
        samples=f"{ROOT}/scores/{{run}}/samples.parquet",
    log:
        f"{ROOT}/logs/evaluate/{{run}}.log",
    wildcard_constraints:
        run=ids("evaluate"),
    priority: 30
    conda:
        STAGE_ENV
    threads: 1
    resources:
        **needs("evaluate"),
    params:
        version=runs.stage_version("evaluate"),
        spec=spec("evaluate"),
        folders=folders("evaluate"),
    shell:
        "DART_GPU={resources.gpu} start {log} dart.stages.evaluate --config {params.spec:q} {params.folders}"
