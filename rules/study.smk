# Beyond the main arms: every other arm, the sweeps, and what all of them together decide.
GROUPS = {name: arm.group for name, arm in CONFIG.every_arm().items() if runs.evaluated(TABLE, [name])}
ARMS = [*GROUPS]
STUDY = json.dumps(view_of(CONFIG, ARMS).model_copy(update={"comparisons": ()}).model_dump(mode="json"))
ALL_SCORES = runs.evaluated(TABLE, ARMS)
ALL_RUNS = manifests(runs.with_inputs(TABLE, ALL_SCORES))
VALIDATED = manifests(runs.evaluated(TABLE, ARMS, split="validation"))


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
        "../envs/dart.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        view=lambda wildcards: view_of_arm(wildcards.arm),
    shell:
        "start {log} analysis.compare --out $(dirname {output.csv}) --view {params.view:q} --manifests {input.manifests}"


def tables(*groups):
    """The comparisons of the arms of these groups."""
    return [f"{ROOT}/tables/arms/{arm}.md" for arm, group in GROUPS.items() if group in groups]


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
