# The workflow that regenerates the paper (arXiv 2605.26924). `snakemake` makes the nano scale; another scale is an
# overlay: `snakemake --configfile configs/rehearsal.yaml`. Stages are commands of the package dart; rules say what runs
# on what. `snakemake TARGET` makes one of the targets of rules/analysis.smk, `snakemake -n` says what would be done.
from snakemake.utils import min_version

min_version("9.0")


configfile: "configs/base.yaml"
configfile: "configs/arms.yaml"


if "scale" not in config:  # no --configfile was given

    configfile: "configs/nano.yaml"


include: "rules/common.smk"
include: "rules/zoo.smk"
include: "rules/data.smk"
include: "rules/cot.smk"
include: "rules/mapper.smk"
include: "rules/adapt.smk"
include: "rules/train.smk"
include: "rules/evaluate.smk"
include: "rules/analysis.smk"


rule all:
    default_target: True
    input:
        rules.report.output,


onstart:
    begin()


onsuccess:
    end()
    print(f"Done. The report, once made: {ROOT}/report/index.html")


onerror:
    end()
