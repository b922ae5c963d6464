# Beyond the main arms: every other arm, the sweeps, and what all of them together decide.
ARMS = [*GROUPS]
# All arms; compared at their best learning rates are the pairs of the main table.
STUDY = json.dumps(
    view_of(CONFIG, ARMS).model_copy(update={"comparisons": view_of(CONFIG).comparisons}).model_dump(mode="json")
)
ALL_SCORES = runs.evaluated(TABLE, ARMS)
ALL_RUNS = manifests(runs.with_inputs(TABLE, ALL_SCORES))
VALIDATED = manifests(runs.evaluated(TABLE, ARMS, split="validation"))


# Short, and in need of no more than manifests and samples: on a cluster they run where Snakemake does.
localrules:
    manifest_list,
    compare,
    arms,
    figure_arms,
    fidelity,
    figure_sweeps,
    learning_rates,
    claims,
    study_report,


# Their paths, line by line: hundreds do not fit a command line.
rule manifest_list:
    input:
        ALL_RUNS,
    output:
        f"{ROOT}/manifests.txt",
    log:
        f"{ROOT}/logs/manifest_list.log",
    run:
        Path(output[0]).write_text("\n".join(input) + "\n")


# One arm beside the main ones, as a table that is printed as well.
rule compare:
    input:
        scripts=["analysis/compare.py", "analysis/table1.py"],
        manifests=lambda wildcards: manifests(runs.evaluated(TABLE, beside(wildcards.arm), CONFIG.seeds)),
    output:
        csv=f"{ROOT}/tables/arms/{{arm}}.csv",
        differences=f"{ROOT}/tables/arms/{{arm}}_differences.csv",
        markdown=f"{ROOT}/tables/arms/{{arm}}.md",
    log:
        f"{ROOT}/logs/compare/{{arm}}.log",
    wildcard_constraints:
        arm="|".join(map(re.escape, ARMS)),
    conda:
        "../envs/flow.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        view=lambda wildcards: view_of_arm(wildcards.arm),
    shell:
        "start {log} analysis.compare --out $(dirname {output.csv}) --view {params.view:q} --manifests {input.manifests}"


# `snakemake arm_NAME` for every arm, and `snakemake ablation_NAME` for those that are ablations.
for arm, group in GROUPS.items():
    for name in [f"arm_{arm}", *([f"ablation_{arm}"] if group == "ablations" else [])]:

        rule:
            name:
                name
            input:
                f"{ROOT}/tables/arms/{arm}.md",


rule baselines:
    input:
        tables("baselines"),


rule ablations:
    input:
        tables("ablations"),


rule controls:
    input:
        tables("controls"),


# Every arm in one table, by group.
rule arms:
    input:
        scripts=["analysis/arms.py"],
        manifests=ALL_RUNS,
        listed=rules.manifest_list.output[0],
    output:
        csv=f"{ROOT}/tables/arms.csv",
        markdown=f"{ROOT}/tables/arms.md",
    log:
        f"{ROOT}/logs/arms.log",
    conda:
        "../envs/flow.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        view=lambda wildcards: STUDY,
    shell:
        "start {log} analysis.arms --out $(dirname {output.csv}) --view {params.view:q} --manifests @{input.listed}"


# The same as a figure.
rule figure_arms:
    input:
        script="analysis/figure_arms.py",
        table=rules.arms.output.csv,
    output:
        png=f"{ROOT}/figures/figure_arms.png",
        pdf=f"{ROOT}/figures/figure_arms.pdf",
        csv=f"{ROOT}/figures/figure_arms.csv",
        caption=f"{ROOT}/figures/figure_arms.json",
    log:
        f"{ROOT}/logs/figure_arms.log",
    conda:
        "../envs/flow.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        view=lambda wildcards: STUDY,
    shell:
        "start {log} analysis.figure_arms --out $(dirname {output.png}) --view {params.view:q} --table {input.table}"


# What the rewrites keep, delete and add, with and without the penalty.
rule fidelity:
    input:
        scripts=["analysis/fidelity.py", "analysis/rewrite_measures.py", "analysis/mapper_distances.py"],
        manifests=ALL_RUNS,
        listed=rules.manifest_list.output[0],
    output:
        csv=f"{ROOT}/tables/fidelity.csv",
        distances=f"{ROOT}/tables/fidelity_distances.csv",
        markdown=f"{ROOT}/tables/fidelity.md",
    log:
        f"{ROOT}/logs/fidelity.log",
    conda:
        "../envs/flow.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        view=lambda wildcards: STUDY,
    shell:
        "start {log} analysis.fidelity --out $(dirname {output.csv}) --view {params.view:q}"
        " --manifests @{input.listed}"


# Accuracy over mapper steps, data size and learning rate.
rule figure_sweeps:
    input:
        scripts=["analysis/figure_sweeps.py", "analysis/sweeps.py"],
        manifests=manifests(ALL_SCORES),
    output:
        png=f"{ROOT}/figures/figure_sweeps.png",
        pdf=f"{ROOT}/figures/figure_sweeps.pdf",
        csv=f"{ROOT}/figures/figure_sweeps.csv",
        caption=f"{ROOT}/figures/figure_sweeps.json",
    log:
        f"{ROOT}/logs/figure_sweeps.log",
    conda:
        "../envs/flow.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        view=lambda wildcards: STUDY,
    shell:
        "start {log} analysis.figure_sweeps --out $(dirname {output.png}) --view {params.view:q}"
        " --manifests {input.manifests}"


# Every arm at the learning rate that is best on the validation questions, and at the common one.
rule learning_rates:
    input:
        scripts=["analysis/learning_rates.py", "analysis/sweeps.py"],
        manifests=manifests(ALL_SCORES),
        validation=VALIDATED,
    output:
        csv=f"{ROOT}/tables/learning_rates.csv",
        comparison=f"{ROOT}/tables/learning_rates_comparison.csv",
        markdown=f"{ROOT}/tables/learning_rates.md",
    log:
        f"{ROOT}/logs/learning_rates.log",
    conda:
        "../envs/flow.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        view=lambda wildcards: STUDY,
    shell:
        "start {log} analysis.learning_rates --out $(dirname {output.csv}) --view {params.view:q} --validation {input.validation}"
        " --manifests {input.manifests}"


# The claims of the paper and of its referee, decided.
rule claims:
    input:
        scripts=[f"analysis/{name}.py" for name in ("claims", "evidence", "verdicts", "significance")],
        claims="configs/claims.yaml",
        fidelity=rules.fidelity.output.csv,
        manifests=ALL_RUNS,
        listed=rules.manifest_list.output[0],
    output:
        csv=f"{ROOT}/tables/claims.csv",
        markdown=f"{ROOT}/tables/claims.md",
    log:
        f"{ROOT}/logs/claims.log",
    conda:
        "../envs/flow.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        view=lambda wildcards: STUDY,
    shell:
        "start {log} analysis.claims --out $(dirname {output.csv}) --view {params.view:q} --claims {input.claims}"
        " --fidelity {input.fidelity}"
        " --manifests @{input.listed}"


rule sweeps:
    input:
        rules.figure_sweeps.output,
        rules.learning_rates.output,


# Claims, all arms, sweeps and fidelity on one page.
rule study_report:
    input:
        scripts=["analysis/study_report.py", "analysis/templates/study.html.j2", "analysis/templates/report.css"],
        tables=[
            rules.claims.output.markdown,
            rules.arms.output.markdown,
            rules.learning_rates.output.markdown,
            rules.fidelity.output.markdown,
        ],
        figures=[rules.figure_arms.output.png, rules.figure_sweeps.output.png],
    output:
        html=f"{ROOT}/report/study.html",
    log:
        f"{ROOT}/logs/study_report.log",
    conda:
        "../envs/flow.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        tables=lambda wildcards, input: Path(input.tables[0]).parent,
        figures=lambda wildcards, input: Path(input.figures[0]).parent,
    shell:
        "start {log} analysis.study_report --out $(dirname {output.html}) --tables {params.tables} --figures {params.figures}"
