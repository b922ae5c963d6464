# The workflow that regenerates the paper (arXiv 2605.26924): the nano scale, or that of `--configfile`. See README.md.
from snakemake.utils import min_version

min_version("9.0")


configfile: "configs/base.yaml"
configfile: "configs/arms.yaml"


if "scale" not in config:  # no --configfile was given

    configfile: "configs/nano.yaml"


if config.get("extends"):  # the file that the given one is an overlay on

    configfile: config["extends"]


include: "rules/common.smk"
include: "rules/zoo.smk"
include: "rules/data.smk"
include: "rules/cot.smk"
include: "rules/mapper.smk"
include: "rules/adapt.smk"
include: "rules/select.smk"
include: "rules/train.smk"
include: "rules/evaluate.smk"
include: "rules/analysis.smk"
include: "rules/study.smk"
include: "rules/plan.smk"


# The main arms: what `snakemake` and `make reproduce` make.
rule reproduce:
    default_target: True
    input:
        rules.report.output,


# Every arm, every sweep, the main arms' further seeds, and the claims that they decide.
rule all:
    input:
        rules.report.output,
        tables("main", "baselines", "ablations", "controls"),
        rules.study_report.output,


onstart:
    begin()


onsuccess:
    done()


onerror:
    failed()
