# Tables and figures out of manifests, metrics and samples; each rule runs the script of its name.
VIEW = json.dumps(view_of(CONFIG).model_dump(mode="json"))
EVALUATED = runs.evaluated(TABLE, CONFIG.main_arms, CONFIG.seeds)
MAIN = runs.with_inputs(TABLE, EVALUATED)
EVERYTHING = manifests(MAIN)
SCORES = manifests(EVALUATED)
MAPPERS = manifests(runs.select(MAIN, ["train_mapper"]))
ADAPTED = manifests(runs.select(MAIN, ["adapt_data"]))
COT = manifests(runs.select(MAIN, ["generate_cot"]))


# Short, and in need of no more than manifests and samples: on a cluster they run where Snakemake does.
localrules:
    table1,
    figure_reward_curves,
    figure_efficiency,
    figure_example,
    figure_mismatch,
    cost_ledger,
    configuration,
    report,


# Table 1: accuracy of every arm on every benchmark, by target.
rule table1:
    input:
        script="analysis/table1.py",
        manifests=SCORES,
    output:
        csv=f"{ROOT}/tables/table1.csv",
        differences=f"{ROOT}/tables/table1_differences.csv",
        markdown=f"{ROOT}/tables/table1.md",
    log:
        f"{ROOT}/logs/table1.log",
    priority: 95  # quick, and looked forward to
    conda:
        "../envs/flow.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        view=lambda wildcards: VIEW,
    shell:
        "start {log} analysis.table1 --out $(dirname {output.csv}) --view {params.view:q} --manifests {input.manifests}"


# Figure 3: mapper reward over training.
rule figure_reward_curves:
    input:
        script="analysis/figure_reward_curves.py",
        manifests=MAPPERS,
    output:
        png=f"{ROOT}/figures/figure_reward_curves.png",
        pdf=f"{ROOT}/figures/figure_reward_curves.pdf",
        csv=f"{ROOT}/figures/figure_reward_curves.csv",
        caption=f"{ROOT}/figures/figure_reward_curves.json",
    log:
        f"{ROOT}/logs/figure_reward_curves.log",
    priority: 95  # quick, and looked forward to
    conda:
        "../envs/flow.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    shell:
        "start {log} analysis.figure_reward_curves --out $(dirname {output.png}) --manifests {input.manifests}"


# Figure 4: accuracy against cost.
rule figure_efficiency:
    input:
        script="analysis/figure_efficiency.py",
        manifests=EVERYTHING,
    output:
        png=f"{ROOT}/figures/figure_efficiency.png",
        pdf=f"{ROOT}/figures/figure_efficiency.pdf",
        csv=f"{ROOT}/figures/figure_efficiency.csv",
        caption=f"{ROOT}/figures/figure_efficiency.json",
        equal_cost=f"{ROOT}/figures/figure_efficiency_equal_cost.csv",
    log:
        f"{ROOT}/logs/figure_efficiency.log",
    priority: 95  # quick, and looked forward to
    conda:
        "../envs/flow.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        view=lambda wildcards: VIEW,
    shell:
        "start {log} analysis.figure_efficiency --out $(dirname {output.png}) --view {params.view:q} --manifests {input.manifests}"


# Figure 5: an original CoT beside its adapted one.
rule figure_example:
    input:
        script="analysis/figure_example.py",
        manifests=ADAPTED + COT,
    output:
        png=f"{ROOT}/figures/figure_example.png",
        pdf=f"{ROOT}/figures/figure_example.pdf",
        csv=f"{ROOT}/figures/figure_example.csv",
        caption=f"{ROOT}/figures/figure_example.json",
    log:
        f"{ROOT}/logs/figure_example.log",
    priority: 95  # quick, and looked forward to
    conda:
        "../envs/flow.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    shell:
        "start {log} analysis.figure_example --out $(dirname {output.png}) --manifests {input.manifests}"


# How likely the target finds the original CoT, and how likely the adapted one.
rule figure_mismatch:
    input:
        script="analysis/figure_mismatch.py",
        manifests=ADAPTED,
    output:
        png=f"{ROOT}/figures/figure_mismatch.png",
        pdf=f"{ROOT}/figures/figure_mismatch.pdf",
        csv=f"{ROOT}/figures/figure_mismatch.csv",
        caption=f"{ROOT}/figures/figure_mismatch.json",
    log:
        f"{ROOT}/logs/figure_mismatch.log",
    priority: 95  # quick, and looked forward to
    conda:
        "../envs/flow.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        view=lambda wildcards: VIEW,
    shell:
        "start {log} analysis.figure_mismatch --out $(dirname {output.png}) --view {params.view:q} --manifests {input.manifests}"


# What each stage and each arm cost.
rule cost_ledger:
    input:
        script="analysis/cost_ledger.py",
        manifests=EVERYTHING,
    output:
        csv=f"{ROOT}/tables/cost_ledger.csv",
        stages=f"{ROOT}/tables/cost_ledger_stages.csv",
        markdown=f"{ROOT}/tables/cost_ledger.md",
    log:
        f"{ROOT}/logs/cost_ledger.log",
    priority: 95  # quick, and looked forward to
    conda:
        "../envs/flow.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        view=lambda wildcards: VIEW,
    shell:
        "start {log} analysis.cost_ledger --out $(dirname {output.csv}) --view {params.view:q} --manifests {input.manifests}"


# The whole configuration as it was resolved.
rule configuration:
    output:
        json=f"{ROOT}/config.json",
    log:
        f"{ROOT}/logs/configuration.log",
    conda:
        "../envs/flow.yaml"
    threads: 1
    params:
        config=lambda wildcards: CONFIG.model_dump_json(indent=1),
    shell:
        "echo {params.config:q} > {output.json} 2> {log}"


# Everything together in one self-contained file.
rule report:
    input:
        tables=[rules.table1.output, rules.cost_ledger.output],
        figures=[
            rules.figure_reward_curves.output,
            rules.figure_efficiency.output,
            rules.figure_example.output,
            rules.figure_mismatch.output,
        ],
        scripts=[
            "analysis/report.py",
            "analysis/findings.py",
            "analysis/templates/report.html.j2",
            "analysis/templates/report.css",
        ],
        config=rules.configuration.output.json,
        knobs="configs/knobs.yaml",
        manifests=EVERYTHING,
    output:
        html=f"{ROOT}/report/index.html",
    log:
        f"{ROOT}/logs/report.log",
    conda:
        "../envs/flow.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        view=lambda wildcards: VIEW,
        tables=lambda wildcards, input: Path(input.tables[0]).parent,
        figures=lambda wildcards, input: Path(input.figures[0]).parent,
        run=lambda wildcards, input: Path(input.config).with_name(overhead.RUN),
    shell:
        "start {log} analysis.report --out $(dirname {output.html}) --view {params.view:q} --config {input.config}"
        " --knobs {input.knobs} --tables {params.tables} --figures {params.figures} --run {params.run}"
        " --manifests {input.manifests}"
