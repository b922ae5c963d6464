"""The report: tables, figures, costs, knobs and provenance in one self-contained page.

``python -m analysis.report --out report --view VIEW --config CONFIG --knobs configs/knobs.yaml --tables tables
--figures figures --run run.json --manifests ...`` writes ``index.html``. It draws nothing anew: tables and figures are
those that the other scripts wrote, findings are sentences made from them (``analysis.findings``).
"""

from __future__ import annotations

import base64
import json
import os
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from analysis import cost_ledger, costs, files, findings, statistics, table1
from analysis.study import Run, View, of_stage, read_runs
from dart import knobs, overhead
from dart.config import Config
from dart.errors import UserError
from dart.overhead import Overhead
from dart.parsing import parse

NAME = "report"
FIGURES = (
    ("figure_mismatch", "The premise"),
    ("figure_reward_curves", "Figure 3"),
    ("figure_efficiency", "Figure 4"),
    ("figure_example", "Figure 5"),
)
TABLES = ("table1", "table1_differences", "cost_ledger", "cost_ledger_stages")
STATUSES = ("stated", "inferred", "assumed")
SOURCES = {
    "world": "a controlled world: procedurally generated problems and small models trained from scratch",
    "real": "real questions",
}


def context(
    runs: Sequence[Run], view: View, tables: dict[str, pd.DataFrame], equal_cost: pd.DataFrame
) -> dict[str, Any]:
    """Return what the template shows of the numbers: findings, tables, intervals and ledger."""
    gaps, ledger = tables["table1_differences"], tables["cost_ledger"]
    averages = gaps[gaps["task"] == statistics.AVERAGE]
    return {
        "view": view,
        "note": table1.note(view),
        "comparisons": findings.comparisons(gaps, view),
        "equal_cost": findings.equal_cost(equal_cost, view),
        "accuracies": _grid(tables["table1"], ["target", "arm"]),
        "differences": _grid(gaps, ["target", "arm", "reference"]),
        "tasks": [statistics.AVERAGE, *view.tasks, *view.further],
        "forest": forest(averages, view),
        "ledger": [{**row, "cells": cost_ledger.cells(row)} for _, row in ledger.iterrows()],
        "stages": [{**row, "cells": cost_ledger.cells(row)} for _, row in tables["cost_ledger_stages"].iterrows()],
        "ledger_header": cost_ledger.HEADER,
        "ledger_rule": costs.RULE,
        "provenance": provenance(runs),
    }


def _grid(table: pd.DataFrame, keys: list[str]) -> dict[tuple[str, ...], dict[str, dict[str, Any]]]:
    """Return rows by key and task."""
    grid: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    for row in table.to_dict("records"):
        grid.setdefault(tuple(row[key] for key in keys), {})[row["task"]] = row
    return grid


def forest(averages: pd.DataFrame, view: View) -> dict[str, Any]:
    """Return average differences as positions (per cent of the plot's width) for a forest plot; 0 is always inside."""
    low, high = min([*averages["low"], 0.0]), max([*averages["high"], 0.0])
    margin = 0.04 * (high - low) or 1.0
    start, width = low - margin, high - low + 2 * margin

    def place(value: float) -> float:
        return round(100 * (value - start) / width, 2)

    rows = [
        {
            **row,
            "label": f"{view.titles[row['arm']]} \N{MINUS SIGN} {view.titles[row['reference']]}",
            "at": {name: place(row[name]) for name in ("mean", "low", "high")},
        }
        for row in averages.to_dict("records")
    ]
    return {"rows": rows, "zero": place(0.0)}


def facts(runs: Sequence[Run], view: View, outside: Overhead) -> list[tuple[str, str]]:
    """Return the size of the study as pairs of name and value."""
    trained = of_stage(runs, "train_sft", "train_rl")
    return [
        ("arms", str(len(view.arms))),
        ("targets", str(len(view.targets))),
        ("seeds", str(len({run.labels["seed"] for run in trained}))),
        ("benchmarks", str(len(view.tasks))),
        ("runs of stages", str(len(runs))),
        ("wall time", files.duration(outside.wall_seconds)),
        *([("overhead", f"{outside.share:.0%}")] if outside.known else []),
    ]


def provenance(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Return what ran, where and when, as pairs of name and value."""
    manifests = [run.manifest for run in runs]
    commits = sorted({f"{one.git['commit']}{' + local changes' if one.git['dirty'] else ''}" for one in manifests})
    versions: dict[str, set[str]] = {}
    for one in manifests:
        for name, version in one.versions.items():
            versions.setdefault(name, set()).add(version)
    hardware = sorted({", ".join(f"{name} {value}" for name, value in one.hardware.items()) for one in manifests})
    seeds = sorted({run.labels["seed"] for run in of_stage(runs, "train_mapper", "train_sft", "train_rl")})
    return [
        ("Commit of the harness", "; ".join(commits)),
        (
            "Computed",
            f"{_when(min(m.started_at for m in manifests))} to {_when(max(m.finished_at for m in manifests))}",
        ),
        ("Seeds", ", ".join(map(str, seeds))),
        ("Runs", f"{len(runs)}, of which {sum(one.resumed > 0 for one in manifests)} were resumed"),
        ("Hardware", "; ".join(hardware)),
        ("Versions", ", ".join(f"{name} {' / '.join(sorted(found))}" for name, found in sorted(versions.items()))),
    ]


def _when(stamp: float) -> str:
    return datetime.fromtimestamp(stamp, UTC).strftime("%Y-%m-%d %H:%M UTC")


def read_figures(folder: Path, out: Path) -> list[dict[str, Any]]:
    """Return the figures with their captions; the PNG as a data URI, the files as links relative to ``out``."""
    found = []
    for name, number in FIGURES:
        png = folder / f"{name}.png"
        if not png.is_file() or not png.with_suffix(".json").is_file():
            raise UserError(f"{png} or its caption does not exist; run `snakemake {name}` first.")
        words = json.loads(png.with_suffix(".json").read_text(encoding="utf-8"))
        image = base64.b64encode(png.read_bytes()).decode()
        links = [(kind, _link(png.with_suffix(f".{kind}"), out)) for kind in ("png", "pdf", "csv")]
        found.append({"name": name, "number": number, **words, "image": image, "links": links})
    return found


def read_table(path: Path) -> pd.DataFrame:
    """Read a table that another script wrote."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; run the rule that makes it first.")
    return pd.read_csv(path)


def _link(path: Path, out: Path) -> str:
    return Path(os.path.relpath(path.resolve(), out.resolve())).as_posix()


def render(values: dict[str, Any]) -> str:
    """Fill the template; a name it misses is an error."""
    folder = Path(__file__).parent / "templates"
    loader = jinja2.FileSystemLoader(folder)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["points"] = findings.points
    environment.filters["compact"] = _compact
    return environment.get_template("report.html.j2").render(**values)


def _compact(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _parser() -> ArgumentParser:
    parser = files.parser(NAME, __doc__)
    text = "JSON file, or an inline JSON object: the whole resolved configuration"
    parser.add_argument("--config", required=True, help=text)
    parser.add_argument("--knobs", type=Path, required=True, help="status and reason of every knob, YAML")
    parser.add_argument("--tables", type=Path, required=True, help="folder of table1 and cost_ledger")
    parser.add_argument("--figures", type=Path, required=True, help="folder of the figures")
    parser.add_argument("--run", type=Path, help="run.json that Snakemake left, for the overhead share")
    return parser


def main() -> None:
    """Read the command line and write the page."""
    arguments = _parser().parse_args()
    out: Path = arguments.out
    view, runs = files.read_view(arguments.view), read_runs(arguments.manifests)
    config = parse(Config, files.read_json("--config", arguments.config), "--config")
    tables = {name: read_table(arguments.tables / f"{name}.csv") for name in TABLES}
    equal_cost = read_table(arguments.figures / "figure_efficiency_equal_cost.csv")
    recorded = arguments.run is not None and arguments.run.is_file()
    sessions, others = overhead.read(arguments.run.parent) if recorded else ([], [])
    rows = knobs.join(config, knobs.read(arguments.knobs))
    outside = cost_ledger.spent_outside(runs, sessions, time.time(), others)
    values = context(runs, view, tables, equal_cost) | {
        "source": SOURCES[config.data.source],
        "figures": read_figures(arguments.figures, out),
        "overhead": outside,
        "facts": facts(runs, view, outside),
        "duration": files.duration,
        "knobs": rows,
        "statuses": [(status, sum(row.status == status for row in rows)) for status in STATUSES],
        "downloads": [
            (path.name, _link(path, out))
            for path in sorted(arguments.tables.iterdir())
            if path.suffix in (".csv", ".md")
        ],
    }
    out.mkdir(parents=True, exist_ok=True)
    partial = out / "index.html.partial"
    partial.write_text(render(values), encoding="utf-8")
    os.replace(partial, out / "index.html")


if __name__ == "__main__":
    files.command(main, NAME)
