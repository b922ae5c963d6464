# Original chains of thought: the expert's verified ones, or human rationales.
rule generate_cot:
    input:
        unpack(inputs("generate_cot")),
    output:
        manifest=f"{ROOT}/cot/manifest.json",
        demonstrations=f"{ROOT}/cot/demonstrations.jsonl",
    log:
        f"{ROOT}/logs/generate_cot.log",
    priority: 92  # everything waits for it
    conda:
        STAGE_ENV
    threads: 1
    resources:
        **needs("generate_cot"),
    params:
        version=runs.stage_version("generate_cot"),
        spec=spec("generate_cot"),
        folders=folders("generate_cot"),
    shell:
        "DART_GPU={resources.gpu} start {log} dart.stages.generate_cot --config {params.spec:q} {params.folders}"
