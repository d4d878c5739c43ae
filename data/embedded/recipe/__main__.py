"""Makes and measures the built-in model: ``python -m recipe build | breaking | evaluate ...``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from recipe.build import Budget, build_embedded, measure_breaking_dose
from recipe.evaluate import evaluate
from recipe.evaluate_steering import evaluate_steering
from recipe.evidence import measure_evidence
from workbench.model.folders import builtin_folder


def main() -> None:
    """Run one of the five."""
    parser = argparse.ArgumentParser(prog="python -m recipe", description=__doc__)
    sub = parser.add_subparsers(dest="command", required=True)
    build = sub.add_parser("build", help="make music, judges and model again, from nothing (hours)")
    build.add_argument("--build", type=Path, default=Path("build"), help="working folder; resumable")
    build.add_argument("--hearing-minutes", type=float, default=Budget.hearing_minutes)
    build.add_argument("--language-minutes", type=float, default=Budget.language_minutes)
    build.add_argument("--device", default="cpu")
    sub.add_parser(
        "breaking", help="measure from which dose on steering breaks the music; writes workbench.json"
    )
    for name, what, clips in (("evaluate", "the model against its thresholds", 30),
                              ("steering", "what the steering engine does with the model", 24)):  # fmt: skip
        measure = sub.add_parser(name, help=f"measure {what}; writes figures, card and docs")
        measure.add_argument("--out", type=Path, default=Path("out") / ("embedded" if clips == 30 else name))
        measure.add_argument("--clips", type=int, default=clips, help="judged clips per genre and condition")
        measure.add_argument("--quiet", action="store_true", help="no progress bars")
        if name == "evaluate":
            measure.add_argument(
                "--listener", default=os.environ.get("LISTENER"), help="run as LISTENER FOLDER --out CSV"
            )
    evidence = sub.add_parser("evidence", help="is the steering real? writes a page and docs/results.md")
    evidence.add_argument("--out", type=Path, default=Path("out") / "evidence")
    evidence.add_argument("--minutes", type=float, default=40.0)
    evidence.add_argument("--quiet", action="store_true", help="no progress bars")
    asked = parser.parse_args()
    if asked.command == "build":
        budget = Budget(asked.hearing_minutes, asked.language_minutes)
        build_embedded(asked.build, budget=budget, device=asked.device)
        return
    if asked.command == "breaking":
        print(measure_breaking_dose(builtin_folder()).sentence())
        return
    if asked.command == "evidence":
        print(measure_evidence(asked.out, minutes=asked.minutes, progress=not asked.quiet))
        return
    options = {"clips": asked.clips, "progress": not asked.quiet, "say": print}
    if asked.command == "evaluate":
        evaluate(asked.out, listener=asked.listener, **options)
    else:
        evaluate_steering(asked.out, **options)


if __name__ == "__main__":
    main()
