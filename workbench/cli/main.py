"""The command line: lab, app, demo, doctor, capture, probe and steer, each a few lines over the library."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeAlias

from workbench.errors import WorkbenchError
from workbench.extensions import load_extension, load_installed_extensions
from workbench.files import builtin_path, file_names

ABOUT = """Look inside a music model, find where it keeps "jazz", turn that up, and hear the result.

A first walk:
  workbench doctor                     is everything there?
  workbench lab                        the notebooks
  workbench app                        just the interactive pages, code hidden
  workbench demo                       the whole job at once: probe, steer, judge; writes a page

The same, step by step:
  workbench capture -o acts.zarr       the activations of the built-in music
  workbench probe acts.zarr -o probes  one probe per layer, and a direction per genre
  workbench steer "a tune" --direction probes/jazz.safetensors --dose 0.15 -o jazz.wav
"""
PACKAGES = ("torch", "transformers", "nnsight", "scikit-learn", "umap-learn", "plotly", "jupyterlab",
            "ipywidgets", "anywidget", "xarray", "zarr")  # fmt: skip
QUICKSTART = "0_quickstart.ipynb"
NOTEBOOKS = Path("~/musicgen-workbench")  # where an installed package copies its notebooks to


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status: 0, or 1 after an error that is told in one line."""
    asked = parser().parse_args(arguments)
    try:
        if hasattr(asked, "extension"):
            load_installed_extensions()
            for file in asked.extension or ():
                load_extension(file)
        return int(asked.run(asked) or 0)
    except WorkbenchError as error:
        print(f"workbench: {error}", file=sys.stderr)
        return 1


def parser() -> ArgumentParser:
    """Return the parser of the whole command line."""
    top = ArgumentParser("workbench", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = top.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for run, options, told, more in COMMANDS:
        text = f"{told[0].upper()}{told[1:]}. {more}".strip()
        command = sub.add_parser(run.__name__, help=told, description=text)
        command.set_defaults(run=run)
        options(command)
    for old, new in RECIPE.items():
        # With no prefix of its own it forwards options too, which argparse would otherwise refuse as unknown.
        command = sub.add_parser(old, add_help=False, prefix_chars="\0")
        command.add_argument("arguments", nargs=argparse.REMAINDER)
        command.set_defaults(run=recipe, recipe=new)
    return top


def _model_options(command: ArgumentParser) -> None:
    command.add_argument(
        "--model", default="embedded", help='"embedded", a folder, or a hub id (default: embedded)'
    )
    command.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")


def _extension_option(command: ArgumentParser, brings: str) -> None:
    told = f"a Python file that registers {brings}; may be given several times (see CONTRIBUTING.md)"
    command.add_argument("--extension", action="append", type=Path, metavar="FILE", help=told)


# ------------------------------------------------------------------------------- notebooks and desks


def notebooks(folder: Path | None = None) -> Path:
    """Return the folder of the notebooks: the clone's own, or copies in a folder of the user's.

    An installed package keeps its notebooks where nobody should write, so those that `folder` does not have
    yet are copied there. What lies there is never overwritten.

    Args:
        folder: where to copy them; None means the clone's own folder, or `NOTEBOOKS` where there is no clone.
    """
    shipped = builtin_path("notebooks")
    if folder is None and os.access(shipped, os.W_OK) and (shipped.parent / "pyproject.toml").exists():
        return shipped
    folder = (folder or NOTEBOOKS).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(shipped.glob("*.ipynb")):
        if not (folder / file.name).exists():
            shutil.copyfile(file, folder / file.name)
    return folder


def lab(asked: Namespace) -> int:
    """Open JupyterLab with its own safe defaults (reachable only from this computer, token)."""
    folder = notebooks(asked.folder)
    notebook, more = asked.notebook, [word for word in asked.arguments if word != "--"]
    if notebook.startswith("-"):  # `workbench lab -- --port=9` names no notebook
        notebook, more = QUICKSTART, [notebook, *more]
    command = [sys.executable, "-m", "jupyterlab", str(folder / notebook), f"--notebook-dir={folder}"]
    return subprocess.call([*command, *more], env={**os.environ, "PYTHONWARNINGS": "ignore"})


def _lab(command: ArgumentParser) -> None:
    command.add_argument("notebook", nargs="?", default=QUICKSTART, help="the notebook to open first")
    command.add_argument(
        "--folder", type=Path, help=f"copy the notebooks there first (without a clone: {NOTEBOOKS})"
    )
    command.add_argument("arguments", nargs=argparse.REMAINDER, help="anything after -- goes to JupyterLab")


def app(asked: Namespace) -> None:
    """Show the desks without their code; see `workbench.cli.app`."""
    from workbench.cli.app import serve

    serve(notebooks(), port=asked.port, browser=not asked.no_browser)


def _app(command: ArgumentParser) -> None:
    command.add_argument("--port", type=int, help="default: 8866, or a free one where that is taken")
    command.add_argument("--no-browser", action="store_true", help="print the address, open nothing")


# -------------------------------------------------------------------------------------- the whole job


def demo(asked: Namespace) -> None:
    """Run the main job; see `workbench.cli.demo`."""
    from workbench.cli.demo import run_demo

    names = ("model", "music", "device", "prompt", "seed", "clips", "judge")
    options = {name: getattr(asked, name) for name in names}
    print(f"Open {run_demo(asked.out, **options)}")


def _demo(command: ArgumentParser) -> None:
    _model_options(command)
    command.add_argument("--music", default="embedded", help='"embedded", a folder or a CSV file')
    command.add_argument(
        "--out", type=Path, default=Path("out/demo"), help="folder for WAV files, report and page"
    )
    command.add_argument("--prompt", default="a tune", help="the prompt of the clips that are kept")
    command.add_argument("--seed", type=int, default=7, help="their seed")
    command.add_argument("--clips", type=int, default=8, help="judged clips per genre (default: 8)")
    command.add_argument("--judge", default="genre", help="name of the judge that hears the clips")
    _extension_option(command, "a judge")


# --------------------------------------------------------------------------------------- step by step


def capture(asked: Namespace) -> None:
    """Write a store of activations."""
    import workbench as wb

    model, songs = wb.load(asked.model, device=asked.device), wb.dataset(asked.music)
    acts = wb.capture(model, songs, sites=asked.sites, seconds=asked.seconds, path=asked.out)
    print(f"{len(acts.clips)} clips, {len(acts.layers)} layers, {', '.join(acts.sites)}: {asked.out}")


def _capture(command: ArgumentParser) -> None:
    _model_options(command)
    music = '"embedded", a folder with a subfolder per genre, or a CSV'
    command.add_argument("--music", default="embedded", help=music)
    command.add_argument("--seconds", type=float, help="only so much of each clip's beginning")
    sites = "embed resid_pre head_out attn_out mlp_out resid_post"
    command.add_argument("--sites", nargs="+", default=["resid_post"], help=sites)
    out = "the store to write, for example acts.zarr"
    command.add_argument("-o", "--out", type=Path, required=True, help=out)


def probe(asked: Namespace) -> None:
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


def _probe(command: ArgumentParser) -> None:
    command.add_argument("activations", type=Path, help="a store that `workbench capture` wrote")
    command.add_argument("--target", default="genre", help="the label to read (default: genre)")
    method = "logistic, ridge, means (the difference in means), or one that an extension brings"
    command.add_argument("--method", default="logistic", help=method)
    command.add_argument(
        "--layer", type=int, help="take the directions from this layer (default: the best one)"
    )
    command.add_argument("-o", "--out", type=Path, help="folder for table.csv and a direction per class")
    _extension_option(command, "a probe method")


def steer(asked: Namespace) -> None:
    """Generate a steered clip, and the same prompt and seed unsteered."""
    import workbench as wb

    model = wb.load(asked.model, device=asked.device)
    push = wb.Direction.load(asked.direction)
    plan = push.at(asked.dose, branch=asked.branch, operation=asked.operation)
    options = {"seed": asked.seed, "seconds": asked.seconds, "guidance": asked.guidance}
    before, after = wb.generate(model, asked.prompt, steering=[None, plan], **options)
    unsteered = asked.out.with_name(f"{asked.out.stem}-unsteered{asked.out.suffix}")
    print(f"{before.clip.write(unsteered)}  unsteered")
    print(f"{after.clip.write(asked.out)}  {after.steering}; {after.receipt}")


def _steer(command: ArgumentParser) -> None:
    _model_options(command)
    command.add_argument("prompt", help='for example "a calm tune"')
    command.add_argument("--direction", type=Path, required=True, help="a file that `workbench probe` wrote")
    dose = "in multiples of the mean residual norm (default: 0.15)"
    command.add_argument("--dose", type=float, default=0.15, help=dose)
    branches = "the branch of guidance to push (default: cond)"
    command.add_argument(
        "--branch", "--rows", choices=["cond", "both", "null"], default="cond", help=branches
    )
    operation = "how it is pushed: add, remove, ..., or one that an extension brings (default: add)"
    command.add_argument("--operation", default="add", help=operation)
    command.add_argument("--seconds", type=float, default=5.0)
    command.add_argument("--guidance", type=float, help="by default what the checkpoint says")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("-o", "--out", type=Path, default=Path("out/steered.wav"))
    _extension_option(command, "an operation")


# ------------------------------------------------------------------------------------------- doctor


def doctor(asked: Namespace) -> int:
    """Print a line per finding; return 0 when everything works, 1 otherwise."""
    print(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    fine = [_check(package, lambda package=package: version(package)) for package in PACKAGES]  # type: ignore[misc]
    fine.append(_check("music", _music))
    fine.append(_check(f"model {asked.model}", lambda: _steered(asked.model, asked.device)))
    print("Everything works." if all(fine) else "Something is missing: see the lines marked with x.")
    return 0 if all(fine) else 1


def _check(what: str, look: Callable[[], str]) -> bool:
    """Print what was found, or why nothing was; never raise, so that one fault does not hide the others."""
    try:
        print(f"  ok {what}: {look()}")
    except PackageNotFoundError:
        print(f"  x  {what}: not installed. Run `make lab`, or install the package again.")
    except Exception as error:  # a doctor reports whatever is wrong
        print(f"  x  {what}: {error}")
    else:
        return True
    return False


def _music() -> str:
    from workbench.datasets import dataset

    songs = dataset("embedded")
    grooves, first = len(set(songs.groups)), songs.clip(0)
    return f"{len(songs)} built-in pieces, {grooves} grooves; the first lasts {first.seconds:g} s"


def _steered(name: str, device: str | None) -> str:
    """Load the model, push it along a random direction for a second, and read the receipt."""
    import numpy as np

    import workbench as wb

    begin = time.perf_counter()
    model = wb.load(name, device=device)
    loaded = time.perf_counter() - begin
    middle = model.n_layers // 2
    vector = np.random.default_rng(0).standard_normal(model.d_model).astype(np.float32)
    norm = float(model.residual_norms()[middle])
    push = wb.Direction(vector, layer=middle, name="random", residual_norm=norm).unit().at(0.5)
    begin = time.perf_counter()
    take = wb.generate(model, "a tune", steering=push, seconds=1, progress=False)
    speed = take.seconds / (time.perf_counter() - begin)
    return f"loaded in {loaded:.1f} s, {speed:.1f} x real time, steering: {take.receipt}\n{model.describe()}"


# --------------------------------------------------------- how the built-in model was made (in a clone)

RECIPE = {"build-embedded": "build", "evaluate-embedded": "evaluate", "evaluate-steering": "steering"}


def recipe(asked: Namespace) -> int:
    """Forward an old command to the recipe of the built-in model, which lies in a clone of the repository."""
    folder = builtin_path("data", "embedded")
    if not (folder / "recipe").is_dir():
        found = "the recipe of the built-in model is not part of the installed package"
        raise WorkbenchError(f"workbench {asked.command} was asked for", found, "Clone the repository")
    print(f"workbench {asked.command} has become: python -m recipe {asked.recipe}", file=sys.stderr)
    command = [sys.executable, "-m", "recipe", asked.recipe, *asked.arguments]
    return subprocess.call(command, env={**os.environ, "PYTHONPATH": str(folder)})


Run: TypeAlias = Callable[[Namespace], int | None]
Options: TypeAlias = Callable[[ArgumentParser], None]
COMMANDS: tuple[tuple[Run, Options, str, str], ...] = (
    (lab, _lab, "open JupyterLab on the quickstart notebook", ""),
    (
        app,
        _app,
        "show the desks in the browser, without code or JupyterLab",
        "Only this machine can reach it, and only with the token in the address that is printed. It is for "
        "one user: each page has a model of its own, which ends when the page is closed.",
    ),
    (
        demo,
        _demo,
        "run the whole job and write a page about it",
        "Layer and dose are chosen on some seeds and reported on others.",
    ),
    (
        doctor,
        _model_options,
        "say what is installed, on which device, and whether the model loads and steers",
        "Exits with 1 when the model cannot be loaded or steered.",
    ),
    (capture, _capture, "store the activations of labelled music", "Interrupted, it resumes."),
    (
        probe,
        _probe,
        "fit one linear probe per layer",
        "Prints accuracy on held-out groups per layer, with its interval and the chance and shuffled lines.",
    ),
    (
        steer,
        _steer,
        "generate a clip, pushed along a direction",
        "Writes the steered clip, and beside it the same prompt and seed unsteered.",
    ),
)
