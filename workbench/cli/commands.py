"""What each command does, in a few lines over the library."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

from workbench.files import file_names

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


def lab(asked: Namespace) -> int:
    """Open JupyterLab with its own safe defaults (this machine only, token)."""
    more = [a for a in asked.arguments if a != "--"]
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        str(NOTEBOOKS / asked.notebook),
        f"--notebook-dir={NOTEBOOKS}",
        *more,
    ]
    return subprocess.call(command, env={**os.environ, "PYTHONWARNINGS": "ignore"})


def app(asked: Namespace) -> int:
    """Show the desks without their code; see ``workbench.cli.app``."""
    from workbench.cli.app import serve

    serve(NOTEBOOKS, port=asked.port, browser=not asked.no_browser)
    return 0


def demo(asked: Namespace) -> int:
    """Run the main job; see ``workbench.cli.demo``."""
    from workbench.cli.demo import run_demo

    page = run_demo(asked.out, model=asked.model, music=asked.music, device=asked.device, prompt=asked.prompt,
                    seed=asked.seed, clips=asked.clips)  # fmt: skip
    print(f"Open {page}")
    return 0


def doctor(asked: Namespace) -> int:
    """Say what works; see ``workbench.cli.doctor``."""
    from workbench.cli.doctor import examine

    return examine(asked.model, asked.device)


def capture(asked: Namespace) -> int:
    """Write a store of activations."""
    import workbench as wb

    model = wb.load(asked.model, device=asked.device)
    acts = wb.capture(
        model, wb.dataset(asked.music), sites=asked.sites, seconds=asked.seconds, path=asked.out
    )
    print(f"{len(acts.clips)} clips, {len(acts.layers)} layers, {', '.join(acts.sites)}: {asked.out}")
    return 0


def probe(asked: Namespace) -> int:
    """Fit probes, print their table, and write table and directions."""
    import workbench as wb

    probes = wb.fit_probes(wb.open_activations(asked.activations), target=asked.target, method=asked.method)
    table = probes.table()
    columns = ["layer", "accuracy", "low", "high", "macro_f1", "chance", "shuffled_mean"]
    print(table[columns].to_string(index=False, float_format="{:.3f}".format))
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
        table.to_csv(asked.out / "table.csv", index=False)
        directions = probes.directions(asked.layer)
        for name, file in file_names(directions).items():
            print(directions[name].save(asked.out / f"{file}.safetensors"))
    return 0


def steer(asked: Namespace) -> int:
    """Generate a steered clip and its unsteered twin."""
    import workbench as wb

    model = wb.load(asked.model, device=asked.device)
    plan = wb.Direction.load(asked.direction).at(asked.dose, rows=asked.rows)
    options = {"seed": asked.seed, "seconds": asked.seconds, "guidance": asked.guidance}
    before, after = wb.generate(model, asked.prompt, steering=[None, plan], **options)
    twin = asked.out.with_name(f"{asked.out.stem}-unsteered{asked.out.suffix}")
    print(f"{before.clip.write(twin)}  unsteered")
    print(f"{after.clip.write(asked.out)}  {after.steering}; {after.receipt}")
    return 0


def build_embedded(asked: Namespace) -> int:
    """Run the recipe of the built-in music and model."""
    from workbench.embedded.recipe import Budget, build_embedded

    given = {"vocoder_minutes": asked.vocoder_minutes, "language_minutes": asked.language_minutes}
    budget = Budget(**{name: minutes for name, minutes in given.items() if minutes is not None})
    print(build_embedded(asked.build, budget=budget, device=asked.device))
    return 0


def evaluate_embedded(asked: Namespace) -> int:
    """Measure the built-in model and write its figures down."""
    from workbench.embedded.evaluate import evaluate

    print(evaluate(asked.out, clips=asked.clips, say=print, progress=not asked.quiet))
    return 0


def evaluate_steering(asked: Namespace) -> int:
    """Measure the steering engine on the built-in model and write its figures down."""
    from workbench.embedded.evaluate_steering import evaluate_steering as evaluate

    print(evaluate(asked.out, clips=asked.clips, say=print, progress=not asked.quiet))
    return 0
