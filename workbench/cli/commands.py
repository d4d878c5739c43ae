"""What each command does, in a few lines over the library."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.files import file_names
from workbench.model.folders import builtin_folder

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


def recipe(asked: Namespace) -> int:
    """Forward an old command to the recipe of the built-in model, which lies in a clone of the repository."""
    folder = builtin_folder().parent
    if not (folder / "recipe").is_dir():
        raise WorkbenchError(
            f"workbench {asked.command} was asked for",
            "the recipe of the built-in model is not part of the installed package",
            "Clone the repository",
        )
    print(f"workbench {asked.command} has become: python -m recipe {asked.recipe}", file=sys.stderr)
    command = [sys.executable, "-m", "recipe", asked.recipe, *asked.arguments]
    return subprocess.call(command, env={**os.environ, "PYTHONPATH": str(folder)})
