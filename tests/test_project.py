"""The project's own promises: one list of requirements, commands that exist, README code that runs."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import verify
import yaml

from workbench.datasets import dataset
from workbench.errors import RenamedWarning

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
CODE = r"(?s)```.*?```|`[^`\n]+`"


def test_conda_points_to_the_one_list_of_requirements():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(item["pip"] for item in environment["dependencies"] if isinstance(item, dict))
    (only,) = pip
    extras = re.search(r"-e \.\[([\w,]+)\]", only)
    assert extras is not None
    assert set(extras.group(1).split(",")) <= set(project["optional-dependencies"])
    assert f"python{project['requires-python']}" in environment["dependencies"]


def test_continuous_integration_runs_the_readmes_command():
    assert "exec make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in README


def test_make_test_ends_with_the_laws_without_vector_units():
    told = subprocess.run(["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    steps = [line for line in told.splitlines() if re.search(r"-m pytest|bin/ruff|bin/mypy", line)]
    parts = ("ruff", "mypy", '-m "not long and not browser"', '-m "browser and not long"', "-k test_law")
    assert len(steps) == len(parts) and all(part in step for part, step in zip(parts, steps, strict=True))
    assert steps[-1].startswith("ATEN_CPU_CAPABILITY=default")
    assert (
        "tests/generation/test_engine_laws.py" in steps[-1]
        and "tests/generation/test_generate.py" in steps[-1]
    )


TARGETS = [
    "lab",
    "app",
    "demo",
    "docs",
    "test",
    "verify",
    "embedded",
    "evaluate-embedded",
    "evaluate-steering",
]


@pytest.mark.parametrize("target", [*TARGETS, *(f"verify-{part}" for part in verify.PARTS)])
def test_make_explains_each_target(target):
    told = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.search(rf"^{target}\s+\w", told, flags=re.MULTILINE)


def test_every_part_of_verify_has_a_target_and_steps():
    (named,) = re.findall(r"^VERIFY := (.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert named.split() == list(verify.PARTS)
    assert all(verify.PARTS.values())
    settings = [environment for environment, _command in verify.PARTS["processors"].values()]
    asked = [("ATEN_CPU_CAPABILITY", ["default", "avx2"]), ("WORKBENCH_TEST_THREADS", ["1", "4"])]
    for name, values in asked:
        assert [one[name] for one in settings if name in one] == values
    assert verify.main(["nothing"]) == 2


def test_a_check_that_passed_on_this_code_is_not_run_again(tmp_path, monkeypatch):
    def step(name, status=0):
        source = f"open({str(tmp_path / name)!r}, 'a').write('x'); raise SystemExit({status})"
        return {"MARK": "1"}, ("-c", source)

    monkeypatch.setattr(verify, "PARTS", {"one": {"good": step("good"), "bad": step("bad", 1)}})
    monkeypatch.setattr(verify, "DONE", tmp_path / "build" / "verify.json")
    monkeypatch.setattr(verify, "TABLE", tmp_path / "verified.md")
    for code, good, bad in (("a", 1, 1), ("a", 1, 2), ("b", 2, 3)):
        monkeypatch.setattr(verify, "code_digest", lambda code=code: code)
        assert verify.main(["one"]) == 1
        assert [len((tmp_path / name).read_text()) for name in ("good", "bad")] == [good, bad]
    (row,) = re.findall(r"^\| one: .*$", (tmp_path / "verified.md").read_text(), flags=re.MULTILINE)
    assert re.search(r"good \| \d{4}-\d\d-\d\d \| [\d.]+ \| .* threads \| `b` \|", row)


def test_nothing_in_the_makefile_weakens_jupyters_defaults():
    commands = (ROOT / "Makefile").read_text() + (ROOT / "workbench" / "cli" / "main.py").read_text()
    assert not re.search(r"token=|password|disable_check_xsrf|--ip|allow-root|allow_origin", commands)


def test_links_of_the_documents_lead_somewhere():
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert link.startswith("https://") or (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_readmes_ten_lines_run(tmp_path):
    code, more = (part.split("```")[0] for part in README.split("```python\n")[1:3])
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    code += more + "print(more.steering, wb.generate(model, 'a tune', steering=[both, until], seconds=1))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "cells changed" in done.stdout
    assert "fade(1s,4s)" in done.stdout and "gate(jazz@3 < 0.8" in done.stdout


def test_importing_the_package_costs_nothing():
    heavy = "{'torch', 'numpy', 'plotly'}"
    code = f"import workbench, sys; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_can_be_had():
    import workbench

    assert all(hasattr(workbench, name) for name in workbench.__all__)
    assert 20 <= len(workbench.__all__) <= 48
    with pytest.raises(AttributeError, match="it has: Activations"):
        workbench.nothing  # noqa: B018


def test_names_of_the_version_before_work_and_warn():
    import workbench

    for old in workbench._MOVED:
        with pytest.warns(RenamedWarning, match=f"workbench.{old} is now"):
            assert getattr(workbench, old) is not None
        assert old not in workbench.__all__
    with pytest.warns(RenamedWarning):
        assert workbench.repeat is workbench.reproduce


@pytest.mark.parametrize("page", ["features.md", "reliability.md"])
def test_every_test_that_a_document_names_is_there(page):
    text = (ROOT / "docs" / page).read_text("utf-8")
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text))
    assert len(named) > 100
    assert not [
        (file, name)
        for file, name in sorted(named)
        if not (ROOT / file).exists() or f"def {name}(" not in (ROOT / file).read_text("utf-8")
    ]
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.endswith("| test |")]
    assert not [row for row in rows if "--- |" not in row and "`tests/" not in row.split(" | ")[-1]]


def test_every_feature_that_a_document_names_has_a_row():
    """Names are what the CHANGELOG writes as code, the README's commands and names, and the public names."""
    import workbench

    points = (ROOT / "CHANGELOG.md").read_text("utf-8").split("\n- ")[1:]
    spans = [span for point in points for span in re.findall(r"`([^`\n]+)`", point.split("\n\n")[0])]
    spans += re.findall(
        r"\b(?:wb\.[a-zA-Z_]+|make [a-z-]+|(?<!import )workbench [a-z]+)", "\n".join(re.findall(CODE, README))
    )
    names = {part.strip() for span in spans for part in span.split("(")[0].split("|")} | {*workbench.__all__}
    page = (ROOT / "docs" / "features.md").read_text("utf-8")
    code = "\n".join(span for span in re.findall(r"`([^`\n]+)`", page) if "::" not in span)
    names = {name for name in names if re.match(r"[\w.~-]", name)}
    assert len(names) > 150
    assert not [name for name in sorted(names) if not re.search(rf"(^|\W|\b){re.escape(name)}(?!\w)", code)]


def test_the_glossary_explains_the_terms_of_diagnosis():
    glossary = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    terms = """group leak, text leak, confound, control task, selectivity, shuffled line,
        difference in means, regularization path"""
    assert [term for term in re.split(r",\s+", terms) if f"| **{term}** |" not in glossary] == []


def test_the_built_in_music_is_what_the_readme_says():
    songs = dataset("embedded")
    assert f"{len(songs):,} labelled pieces" in README
    assert len(songs.genres) == 6 and {"typical", "band"} <= set(songs.targets)
    assert 0.2 < (songs.labels("typical") == "no").mean() < 0.3
    assert songs.clip(0).seconds == 10
