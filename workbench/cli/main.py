"""The command line: lab, app, demo, doctor, capture, probe ... each a few lines over the library."""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import workbench as wb
from workbench.cli.copies import HOME, MINE, copied_notebooks
from workbench.errors import WorkbenchError
from workbench.errors import message as told_as
from workbench.extensions import load_extension, load_installed_extensions
from workbench.files import builtin_path, file_names, write_atomically

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
  workbench evaluate                   is the steering real? a page of evidence, with controls
"""
PACKAGES = ("torch", "transformers", "nnsight", "scikit-learn", "umap-learn", "plotly", "jupyterlab",
            "ipywidgets", "anywidget", "xarray", "zarr")  # fmt: skip
QUICKSTART = "0_quickstart.ipynb"
# Old commands that have moved to the recipe of the built-in model, and what they are called there.
RECIPE = {"build-embedded": "build", "evaluate-embedded": "evaluate", "evaluate-steering": "steering"}
SITES = "embed resid_pre head_out attn_out mlp_out resid_post"
METHODS = "logistic, ridge, means (the difference in means), rfm, unit-ridge, or one that an extension brings"
LAYER = "print what this layer confuses, and take the directions from it (default: the middle layer)"
GROUP = (
    "what no split may cut, if not the groups of the music: a label such as band, clip, or a regular "
    'expression on the clips\' names such as "(.*?)_"'
)
DIRECTION = "a file that `workbench probe` wrote, or with --plan their folder; may be given several times"
PLAN = 'the whole plan, instead of dose, branch and operation: "0.2*jazz@3 - 0.1*rock@3 | ramp(1s,3s)"'
BATCH_PAYS, THREADS_PAY = 1.5, 1.2  # times as fast, from which the doctor says so
USUAL = {"dose": 0.15, "branch": "cond", "operation": "add"}
DOSE = "in multiples of the mean residual norm (default: 0.15)"
BRANCH = "the branch of guidance to push (default: cond)"
OPERATION = "how it is pushed: add, remove, ..., or one that an extension brings (default: add)"

Run: TypeAlias = Callable[[Namespace], int | None]
Option: TypeAlias = tuple[tuple[str, ...], dict[str, Any]]
COMMANDS: list[tuple[Run, str, str, tuple[Option, ...]]] = []


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status: 0, or 1 after an error that is told in one line."""
    asked, unknown = parser().parse_known_args(arguments)
    if unknown:
        asked.parser.error(f"it does not know {' '.join(unknown)}")
    try:
        if hasattr(asked, "extension"):
            load_installed_extensions()
            for file in asked.extension or ():
                load_extension(file)
        return int(asked.run(asked) or 0)
    except WorkbenchError as error:
        print(f"workbench: {error}", file=sys.stderr)
        return 1


class _Parser(ArgumentParser):
    """Says of wrong arguments what was asked, what was found and what to do."""

    def error(self, message: str) -> NoReturn:
        do = f"Run `{self.prog} --help` to see what it takes"
        self.exit(2, f"workbench: {told_as(f'`{self.prog}` was asked for', message, do)}\n")


def parser() -> ArgumentParser:
    """Return the parser of the whole command line."""
    top = _Parser("workbench", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = top.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for run, told, more, options in COMMANDS:
        text = f"{told[0].upper()}{told[1:]}. {more}".strip()
        made = sub.add_parser(run.__name__, help=told, description=text)
        made.set_defaults(run=run, parser=made)
        for names, settings in options:
            made.add_argument(*names, **settings)
    for old, new in RECIPE.items():
        # With no prefix of its own it forwards options too, which argparse would otherwise refuse as unknown.
        made = sub.add_parser(old, add_help=False, prefix_chars="\0")
        made.add_argument("arguments", nargs=argparse.REMAINDER)
        made.set_defaults(run=recipe, recipe=new, parser=made)
    return top


def command(told: str, *options: Option, more: str = "") -> Callable[[Run], Run]:
    """Make a function a command of its name, with its options and what `--help` says of it."""

    def listed(run: Run) -> Run:
        COMMANDS.append((run, told, more, options))
        return run

    return listed


def option(*names: str, **settings: Any) -> Option:
    """Return an option or argument, as argparse takes it."""
    return names, settings


def extension(brings: str) -> Option:
    """Return the option that runs a file which registers what it `brings`."""
    told = f"a Python file that registers {brings}; may be given several times (see CONTRIBUTING.md)"
    return option("--extension", action="append", type=Path, metavar="FILE", help=told)


def in_python(line: str) -> None:
    """Print the line that opens the result of a command in a notebook."""
    print(f"In Python: import workbench as wb; {line}")


MODEL = (
    option("--model", default="embedded", help='"embedded", a folder, or a hub id (default: embedded)'),
    option("--device", help="cpu, cuda or mps (default: the best there is)"),
)


@command(
    "open JupyterLab on the quickstart notebook",
    option("notebook", nargs="?", default=QUICKSTART, help="the notebook to open first"),
    option("--folder", type=Path, help=f"where the copies go (default: {MINE} in a clone, else {HOME})"),
    option("arguments", nargs=argparse.REMAINDER, help="anything after -- goes to JupyterLab"),
    more="The notebooks are copies: run, change and save them as you like. One that you have changed is "
    "never overwritten; a later version of it is put beside it.",
)
def lab(asked: Namespace) -> int:
    """Open JupyterLab with its own safe defaults (reachable only from this computer, token)."""
    notebook, more = asked.notebook, [word for word in asked.arguments if word != "--"]
    if notebook.startswith("-"):  # `workbench lab -- --port=9` names no notebook
        notebook, more = QUICKSTART, [notebook, *more]
    folder = copied_notebooks(asked.folder)
    if not (folder / notebook).is_file():
        found = f"there are {', '.join(sorted(path.name for path in folder.glob('*.ipynb')))}"
        raise WorkbenchError(f"The notebook {notebook} was asked for", found, "Name one of those")
    print(f"Your copies of the notebooks lie in {folder}")
    start = [sys.executable, "-m", "jupyterlab", str(folder / notebook), f"--notebook-dir={folder.parent}"]
    return subprocess.call([*start, *more], env={**os.environ, "PYTHONWARNINGS": "ignore"})


@command(
    "show just the interactive pages in the browser, code hidden",
    option("--port", type=int, help="default: 8866, or a free one where that is taken"),
    option("--no-browser", action="store_true", help="print the address, open nothing"),
    more="The live desk comes first. Only this machine can reach the pages, and only with the token in the "
    "address that is printed. They are for one user: each has a model of its own, until it is closed.",
)
def app(asked: Namespace) -> None:
    """Show the desks without their code; see `workbench.cli.app`."""
    from workbench.cli.app import serve

    serve(copied_notebooks(), port=asked.port, browser=not asked.no_browser)


@command(
    "run the whole job and write a page about it",
    *MODEL,
    option("--music", default="embedded", help='"embedded", a folder or a CSV file'),
    option("--out", type=Path, default=Path("out/demo"), help="folder for WAV files, report and page"),
    option("--prompt", default="a tune", help="the prompt of the clips that are kept"),
    option("--seed", type=int, default=7, help="their seed"),
    option("--clips", type=int, default=8, help="judged clips per genre (default: 8)"),
    option("--judge", default="genre", help="name of the judge that hears the clips"),
    extension("a judge"),
    more="Layer and dose are chosen on some seeds and reported on others.",
)
def demo(asked: Namespace) -> None:
    """Run the main job; see `workbench.cli.demo`."""
    from workbench.cli.demo import run_demo

    names = ("model", "music", "device", "prompt", "seed", "clips", "judge")
    print(f"Open {run_demo(asked.out, **{name: getattr(asked, name) for name in names})}")
    clips = f"clips = sorted(Path({str(asked.out)!r}).glob('*.wav'))"
    shown = "wb.compare(*map(wb.read_clip, clips), names=[clip.stem for clip in clips])"
    in_python(f"from pathlib import Path; {clips}; {shown}")


@command(
    "say what is installed, on which device, how fast, and whether the model loads and steers",
    *MODEL,
    more="Exits with 1 when the model cannot be loaded or steered.",
)
def doctor(asked: Namespace) -> int:
    """Print a line per finding; return 0 when everything works, 1 otherwise."""
    print(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    fine = [_check(package, lambda package=package: version(package)) for package in PACKAGES]  # type: ignore[misc]
    fine.append(_check("music", _music))
    loaded: list[wb.Model] = []
    fine.append(_check(f"model {asked.model}", lambda: _steered(asked.model, asked.device, loaded)))
    if loaded:
        fine.append(_check("speed", lambda: _speed(loaded[0])))
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
    songs = wb.dataset("embedded")
    grooves, first = len(set(songs.groups)), songs.clip(0)
    return f"{len(songs)} built-in pieces, {grooves} grooves; the first lasts {first.seconds:g} s"


def _steered(name: str, device: str | None, loaded: list[wb.Model]) -> str:
    import numpy as np

    begin = time.perf_counter()
    model = wb.load(name, device=device)
    spent = time.perf_counter() - begin
    middle = model.n_layers // 2
    vector = np.random.default_rng(0).standard_normal(model.d_model).astype(np.float32)
    norm = float(model.residual_norms()[middle])
    push = wb.Direction(vector, layer=middle, name="random", residual_norm=norm).unit().at(0.5)
    take = wb.generate(model, "a tune", steering=push, seconds=1, progress=False)
    loaded.append(model)
    return f"loaded in {spent:.1f} s, steering: {take.receipt}\n{model.describe()}"


def _speed(model: wb.Model) -> str:
    """Return steps per second, what each part runs on and in, and what is worth changing, marked with !."""
    import torch

    alone = _steps_per_second(model)
    names = {"text encoder": model.musicgen.text_encoder, "codec": model.musicgen.audio_encoder}
    parts = [f"decoder {model.device} {model.precision}"]
    parts += [f"{name} {one.device} {str(one.dtype).removeprefix('torch.')}" for name, one in names.items()]
    lines = [f"{alone:.1f} steps/s, {alone / model.frame_rate_hz:.2f} x real time; {'; '.join(parts)}"]
    if (gain := _steps_per_second(model, clips=4) / alone) >= BATCH_PAYS:
        lines.append(f"! 4 clips at once are made {gain:.1f} x as fast as one by one: pass several prompts")
    if model.device.type == "cpu":
        if torch.accelerator.is_available():
            lines.append('! the accelerator of this machine is not used: leave out --device, or say "gpu"')
        lines += _threads(model, alone)
    if model.device.type == "mps":
        lines.append("! Apple's MPS is untested here: compare a clip with one that is made on the CPU")
    if swapped := _swapped_mb():
        lines.append(f"! {swapped} MB of this process are in swap, which is slow: close other programs")
    return "\n     ".join(lines)


def _steps_per_second(model: wb.Model, clips: int = 1, seconds: float = 0.5) -> float:
    """Return how many steps of the decoder are made in a second, those of all clips together."""
    begin = time.perf_counter()
    takes = wb.generate(model, ["a tune"] * clips, seed=[*range(clips)], seconds=seconds, progress=False)
    steps = takes[0].codes.shape[-1] + max(model.delays)
    return clips * steps / (time.perf_counter() - begin)


def _threads(model: wb.Model, alone: float) -> list[str]:
    """Return a line where other numbers of threads are faster; it is never changed, as codes depend on it."""
    import torch

    now, cores = torch.get_num_threads(), os.cpu_count() or 1
    found = {now: alone}
    try:
        for count in [2**power for power in range(cores.bit_length()) if 2**power != now]:
            torch.set_num_threads(count)
            found[count] = _steps_per_second(model)
    finally:
        torch.set_num_threads(now)
    told = ", ".join(f"{count}: {found[count]:.1f}" for count in sorted(found))
    best = max(found, key=found.__getitem__)
    if found[best] < THREADS_PAY * alone:
        return [f"steps/s by threads: {told}; {now} in use"]
    return [f"! steps/s by threads: {told}; {now} in use. OMP_NUM_THREADS={best} is faster, with other codes"]


def _swapped_mb() -> int:
    """Return how many MB of this process lie in swap; 0 where the system does not say."""
    import psutil

    return int(getattr(psutil.Process().memory_full_info(), "swap", 0)) // 2**20


@command(
    "store the activations of labelled music",
    *MODEL,
    option("--music", default="embedded", help='"embedded", a folder with a subfolder per genre, or a CSV'),
    option("--seconds", type=float, help="only so much of each clip's beginning"),
    option("--sites", nargs="+", default=["resid_post"], help=SITES),
    option("-o", "--out", type=Path, required=True, help="the store to write, for example acts.zarr"),
    more="Interrupted, it resumes.",
)
def capture(asked: Namespace) -> None:
    """Write a store of activations."""
    model, songs = wb.load(asked.model, device=asked.device), wb.dataset(asked.music)
    acts = wb.capture(model, songs, sites=asked.sites, seconds=asked.seconds, path=asked.out)
    print(f"{len(acts.clips)} clips, {len(acts.layers)} layers, {', '.join(acts.sites)}: {asked.out}")
    in_python(f"acts = wb.open_activations({str(asked.out)!r})")


@command(
    "fit one linear probe per layer",
    option("activations", type=Path, help="a store that `workbench capture` wrote"),
    option("--target", default="genre", help="the label to read (default: genre)"),
    option("--method", default="logistic", help=METHODS),
    option("--layer", type=int, help=LAYER),
    option("--group", metavar="RULE", help=GROUP),
    option("--lint", action="store_true", help="first print what is wrong with the music that was captured"),
    option("--music", default="embedded", help="with --lint: the music, as `workbench capture` was given it"),
    option("--png", type=Path, metavar="FILE", help="write the figure of accuracy per layer as a PNG file"),
    option("-o", "--out", type=Path, help="folder for table.csv, a direction per class, and the probes"),
    extension("a probe method"),
    more="Prints accuracy on held-out groups per layer, with its interval and the chance and shuffled lines. "
    "Directions come from the middle layer: the best one is the best of several, so partly by luck.",
)
def probe(asked: Namespace) -> None:
    """Fit probes, print their table and what else was asked for, and write what they found."""
    from workbench.cli.tasks import accuracy_png, confusion_text, lint_of, regroup

    acts = wb.open_activations(asked.activations)
    if asked.layer is not None:
        acts.sel(layer=asked.layer)  # say now, not after all is fitted, that there is none
    if asked.lint:
        print(lint_of(acts, asked.music, asked.target))
    acts = acts if asked.group is None else regroup(acts, asked.group)
    probes = wb.fit_probes(acts, target=asked.target, method=asked.method)
    table = probes.table()
    columns = ["layer", "accuracy", "low", "high", "macro_f1", "chance", "shuffled_mean", "groups"]
    print(table[columns].to_string(index=False, float_format="{:.3f}".format))
    if asked.layer is not None:
        print(confusion_text(probes, asked.layer))
    if asked.png is not None:
        print(write_atomically(asked.png, accuracy_png(table, asked.target)))
    if asked.out is None:
        in_python(_fitted_again(asked))
        return
    asked.out.mkdir(parents=True, exist_ok=True)
    table.to_csv(asked.out / "table.csv", index=False)
    directions = probes.directions(probes.layers[len(probes) // 2] if asked.layer is None else asked.layer)
    for name, file in file_names(directions).items():
        print(directions[name].save(asked.out / f"{file}.safetensors"))
    saved = probes.save(asked.out / "sweep")
    in_python(f"from workbench.probing import ProbeSweep; probes = ProbeSweep.load({str(saved)!r})")


def _fitted_again(asked: Namespace) -> str:
    """Return the line that fits what `workbench probe` fitted and did not write."""
    lines = [f"acts = wb.open_activations({str(asked.activations)!r})"]
    for file in asked.extension or ():
        lines.insert(0, f"from workbench.extensions import load_extension; load_extension({str(file)!r})")
    if asked.group is not None:
        lines.append(f"from workbench.cli.tasks import regroup; acts = regroup(acts, {asked.group!r})")
    lines.append(f"probes = wb.fit_probes(acts, target={asked.target!r}, method={asked.method!r})")
    return "; ".join(lines)


@command(
    "generate a clip, pushed along a direction or by a plan",
    *MODEL,
    option("prompt", help='for example "a calm tune"'),
    option("--direction", type=Path, required=True, action="append", metavar="FILE", help=DIRECTION),
    option("--plan", metavar="TEXT", help=PLAN),
    option("--dose", type=float, default=USUAL["dose"], help=DOSE),
    option("--branch", "--rows", choices=["cond", "both", "null"], default=USUAL["branch"], help=BRANCH),
    option("--operation", default=USUAL["operation"], help=OPERATION),
    option("--seconds", type=float, default=5.0, help="length of both clips (default: 5)"),
    option("--guidance", type=float, help="by default what the checkpoint says"),
    option("--seed", type=int, default=0, help="of both clips (default: 0)"),
    option("--judge", metavar="NAME", help="print what this judge hears in both clips, for example genre"),
    option("-o", "--out", type=Path, default=Path("out/steered.wav"), help="default: out/steered.wav"),
    extension("an operation or a judge"),
    more="Writes the steered clip, and beside it the same prompt and seed unsteered.",
)
def steer(asked: Namespace) -> None:
    """Generate a steered clip, and the same prompt and seed unsteered."""
    from workbench.cli.tasks import breaking_warning, directions_in, heard_table, planned

    judge = None if asked.judge is None else wb.load_judge(asked.judge)
    plan = planned(directions_in(asked.direction), asked, USUAL)
    model = wb.load(asked.model, device=asked.device)
    if told := breaking_warning(plan, model):
        print(f"workbench: {told}", file=sys.stderr)
    options = {"seed": asked.seed, "seconds": asked.seconds, "guidance": asked.guidance}
    before, after = wb.generate(model, asked.prompt, steering=[None, plan], **options)
    unsteered = asked.out.with_name(f"{asked.out.stem}-unsteered{asked.out.suffix}")
    print(f"{before.clip.write(unsteered)}  unsteered")
    print(f"{after.clip.write(asked.out)}  {after.steering}; {after.receipt}")
    if judge is not None:
        print(heard_table(asked.judge, judge, {"unsteered": before.clip, "steered": after.clip}))
    clips = f"wb.read_clip({str(unsteered)!r}), wb.read_clip({str(asked.out)!r})"
    in_python(f"wb.compare({clips}, names=['unsteered', 'steered'])")


@command(
    "measure whether steering is real, and write a page of evidence",
    *MODEL,
    option("--music", default="embedded", help="half of it makes directions, half judges and begins"),
    option(
        "--direction", type=Path, action="append", metavar="FILE", help=f"instead of new ones: {DIRECTION}"
    ),
    option("--out", type=Path, default=Path("out/evidence"), help="folder for rows, table and page"),
    option("--budget", type=float, default=40.0, metavar="MINUTES", help="default: 40"),
    option("--judge", action="append", metavar="NAME", help="may be given several times (default: genre)"),
    option("--blind", type=int, metavar="N", help="also write a listening test of N groups: listen.html"),
    option("--answers", type=Path, nargs="+", metavar="CSV", help="print what listeners of --blind said"),
    extension("a judge"),
    more="Layers and doses are chosen on some prompts and seeds and reported on others, beside controls. "
    "Interrupted, the same command goes on where it stopped.",
)
def evaluate(asked: Namespace) -> None:
    """Write the page of evidence and the listening test, or read the answers to the latter."""
    from workbench.cli.tasks import directions_by_method, directions_in
    from workbench.show.blind import blind_results

    if asked.answers:
        table = blind_results(asked.answers, asked.out / "key.json")
        print(table.to_string(index=False, float_format="{:.2f}".format))
        return
    model, songs = wb.load(asked.model, device=asked.device), wb.dataset(asked.music)
    learnt, held = songs.split(test=0.5)
    directions: dict[str, Any] = {}
    for one in directions_in(asked.direction or ()).values():
        directions[one.name] = (*directions.get(one.name, ()), one)
    if not directions:
        layers = sorted({model.n_layers // 4, model.n_layers // 2})
        directions = directions_by_method(wb.capture(model, learnt, seconds=5, layers=layers))
    judges, options = asked.judge or "genre", {"budget_minutes": asked.budget, "folder": asked.out}
    found = wb.evidence_report(model, directions, judges=judges, music=held, **options)
    print(found, *(one.sentence for one in found.verdicts.values()), f"Open {found.page}", sep="\n")
    if asked.blind:
        print(f"Send {wb.blind_test(model, found.plans, asked.out, triples=asked.blind)}")
    in_python(f"import pandas as pd; pd.read_csv({str(asked.out / 'table.csv')!r})")


def recipe(asked: Namespace) -> int:
    """Forward an old command to the recipe of the built-in model, which lies in a clone of the repository."""
    folder = builtin_path("data", "embedded")
    if not (folder / "recipe").is_dir():
        found = "the recipe of the built-in model is not part of the installed package"
        raise WorkbenchError(f"workbench {asked.command} was asked for", found, "Clone the repository")
    print(f"workbench {asked.command} has become: python -m recipe {asked.recipe}", file=sys.stderr)
    start = [sys.executable, "-m", "recipe", asked.recipe, *asked.arguments]
    return subprocess.call(start, env={**os.environ, "PYTHONPATH": str(folder)})
