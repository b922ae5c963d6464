# What the rules share: the validated configuration, the table of runs, and how a stage is started.
import json
import logging
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake_interface_logger_plugins.common import LogEvent

sys.path.insert(0, workflow.basedir)

import dart.config
from analysis.study import view_of
from dart import overhead, pin, plan, runs, warm
from dart.errors import UserError
from dart.plan import cost_model


def checked(function, *arguments):
    """Call a function of dart; what a user has to read is shown as Snakemake shows its own errors."""
    try:
        return function(*arguments)
    except UserError as error:
        raise WorkflowError(str(error)) from None


CONFIG = checked(dart.config.parse, dart.config.Config, config, "The configuration")
TABLE = checked(runs.table, CONFIG)
checked(pin.require, CONFIG)
ROOT = f"{CONFIG.results}/{CONFIG.scale}"
GROUPS = {name: arm.group for name, arm in CONFIG.every_arm().items() if runs.evaluated(TABLE, [name])}
checked(runs.check_targets, TABLE, ROOT, sys.argv[1:])  # Snakemake would only say that no rule makes it

# Where stages run. With `--sdm conda` in the environment that Snakemake makes from this file; without it in the Python
# that runs Snakemake or, where the scale needs what that lacks, in the virtual environment that `make envs` builds.
STAGE_ENV = f"../envs/{CONFIG.environment}.yaml"
CONDA = bool(workflow.deployment_settings.deployment_method)
VENV = None if CONDA or CONFIG.environment == "dart" else Path(workflow.basedir, f".venv-{CONFIG.environment}")
# A job on a cluster is alone in its allocation: a warm server would be started for it and end with it.
LAUNCH = warm.command() if workflow.is_main_process else warm.command("python -m")
# Shell blocks say `start LOG MODULE ...`: progress lines reach the terminal, stderr the log. When the module fails, the
# last line of the log (a stage's one sentence) reaches the terminal too, at once and at the end (`onerror`). With
# `DART_GPU=COUNT start ...` and a count other than 0, dart.launch runs it on so many GPUs, one process each.
FAILED = Path(ROOT) / "logs" / "failed.txt"
shell.prefix(f"""DART_GPU=0; start() (
    log="$1"; shift
    case "$1" in dart.stages.*) PATH="{f"{VENV}/bin:" if VENV else ""}$PATH" ;; esac
    if [ "$DART_GPU" = 0 ]; then {LAUNCH} "$@"; else python -m dart.launch "$DART_GPU" "$@"; fi 2> "$log" && exit
    status=$?; echo "$(tail -n 1 "$log") (status $status, log $log)" | tee -a {FAILED} >&2; exit $status
)
""")


def run_of(stage, wildcards):
    return checked(runs.find, TABLE, stage, wildcards.get("run", ""))


def manifests(selected):
    """Manifests of these runs."""
    return [f"{ROOT}/{run.folder}/manifest.json" for run in selected]


def beside(arm):
    """The main arms and, last, the one that is compared with them."""
    return [*(name for name in CONFIG.main_arms if name != arm), arm]


def view_of_arm(arm):
    """The analysis's view of these arms: differences of this one from every other, as inline JSON."""
    pairs = tuple((arm, other) for other in beside(arm)[:-1])
    made = {run.spec["labels"]["target"] for run in runs.evaluated(TABLE, [arm])}
    targets = tuple(target for target in CONFIG.targets if target in made)
    return view_of(CONFIG, beside(arm)).model_copy(update={"comparisons": pairs, "targets": targets}).model_dump_json()


def tables(*groups):
    """The comparisons of the arms of these groups with the main table's."""
    others = [arm for arm, group in GROUPS.items() if group in groups and arm not in CONFIG.main_arms]
    return [f"{ROOT}/tables/arms/{arm}.md" for arm in others]


def inputs(stage):
    """Input function: the manifests that a run of the stage reads, by input name."""
    return lambda wildcards: {
        name: f"{ROOT}/{folder}/manifest.json" for name, folder in run_of(stage, wildcards).inputs.items()
    }


def spec(stage):
    """Params function: the run's spec as inline JSON; a changed value re-runs what it affects and nothing else."""
    return lambda wildcards: json.dumps(run_of(stage, wildcards).spec, sort_keys=True)


def folders(stage):
    """Params function: the run's folders as command-line options."""

    def options(wildcards):
        run = run_of(stage, wildcards)
        # Scratch is undeclared, so that Snakemake does not delete the checkpoints of a failed job.
        named = {**run.inputs, "out": run.folder, "scratch": "scratch"}
        return " ".join(f"--{name} {ROOT}/{folder}" for name, folder in named.items())

    return options


def needs(stage):
    """Resources of a rule; a site's own limits go over them: `--set-resources RULE:gpu=2`, or a profile's."""
    if stage not in CONFIG.resources:
        raise WorkflowError(f"The configuration: resources.{stage} is missing; set it (configs/base.yaml shows how).")
    return CONFIG.resources[stage].model_dump()


def ids(stage):
    """Pattern of the run ids of a stage; matches nothing where it has none."""
    return "|".join(run.id for run in TABLE if run.stage == stage) or "(?!)"


def only_plans():
    """Whether the command line asks for a plan, which leaves nothing behind; nothing else is asked for with it."""
    return any(word.partition("_")[0] == "plan" for word in sys.argv[1:])


class Losses(logging.Handler):
    """Tells of each job that a cluster lost: cancelled, out of time. Snakemake, quiet about rules, would not."""

    def emit(self, record):
        if getattr(record, "event", None) == LogEvent.JOB_ERROR:
            why = (record.rule_msg or "failed").partition(". ")[0]
            sentence = f"{record.rule_name}: {why} (log {', '.join(record.log)})"
            print(sentence, file=sys.stderr)
            FAILED.parent.mkdir(parents=True, exist_ok=True)
            with FAILED.open("a") as file:
                file.write(f"{sentence}\n")


def begin():
    if only_plans():
        return
    if VENV and not (VENV / "bin/python").exists():
        raise WorkflowError(f"The stages of {CONFIG.scale} need the environment {VENV}; build it: make {VENV.name}")
    cluster = workflow.non_local_exec
    if cluster:
        logging.getLogger("snakemake.logging").addHandler(Losses())
    # Snakemake 9.27 looks for jobs to start a second after each look, and after each job: looks multiply with the jobs
    # that have ended, and took a fifth of a core in `all` of nano. It does so to hold a rate of starts, which we need
    # not: `cores` and `jobs` say how many run at once.
    workflow.scheduler.job_rate_limiter = None
    overhead.record_start(Path(ROOT), None if cluster else workflow.cores)
    FAILED.unlink(missing_ok=True)


def end():
    if only_plans():
        return
    overhead.record_end(Path(ROOT))


def failed():
    """Tell what failed, a sentence each; what was tried again with success as well, if something else failed."""
    end()
    if FAILED.is_file():
        print(f"\nFailed:\n{FAILED.read_text()}", file=sys.stderr)


def done():
    """Name what a reader opens first."""
    end()
    pages = [str(page) for page in sorted(Path(ROOT).glob("report/*.html"))]
    print(f"Done. {' and '.join(pages)}" if pages else "Done.")
