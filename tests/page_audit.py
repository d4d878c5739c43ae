"""What is wrong with what a page shows, by boxes and computed colours, so that any font will do.

Texts that overlap, are cut or stick out, scrollbars, choices that show nothing, text over a plot, contrast
below WCAG AA (4.5 for text, 3 for large text, lines and marks), controls without a name, without a focus
ring, or that Tab does not reach.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("page_audit.js")
MOST_CONTROLS = 400


@cache
def themes() -> dict[str, str]:
    """Return the style sheets of JupyterLab's own two themes, as installed."""
    import jupyterlab

    folders = [Path(parent) / "share/jupyter/lab/themes" for parent in Path(jupyterlab.__file__).parents]
    found = next(folder for folder in folders if folder.is_dir()) / "@jupyterlab"
    names = ("light", "dark")
    return {name: (found / f"theme-{name}-extension" / "index.css").read_text("utf-8") for name in names}


def put_on(page: Any, theme: str) -> None:
    """Give a bare page the variables and the paper of a theme, as JupyterLab does."""
    page.evaluate(
        """([name, text]) => {
          const made = () => document.head.appendChild(document.createElement("style"));
          const style = document.getElementById("theme") ?? made();
          Object.assign(style, { id: "theme", textContent: text });
          document.body.style.background = "var(--jp-layout-color0)";
          document.body.dataset.jpThemeName = "JupyterLab " + name;
          document.body.dataset.jpThemeLight = String(name === "light");
        }""",
        [theme, themes()[theme]],
    )


def faults(page: Any, root: str = "body") -> list[str]:
    """Return what is wrong with the boxes and colours inside the first element that `root` selects."""
    _load(page)
    return list(page.evaluate("root => audit.look(document.querySelector(root))", root))


def faults_of_controls(page: Any, root: str = "body") -> list[str]:
    """Return what is wrong with the controls, after pressing Tab through all of them."""
    _load(page)
    found = list(page.evaluate("root => audit.begin(document.querySelector(root))", root))
    for _press in range(MOST_CONTROLS):
        page.keyboard.press("Tab")
        told = page.evaluate("() => audit.step()")
        if told is None:
            break
        found += told
    return found + list(page.evaluate("() => audit.end()"))


def _load(page: Any) -> None:
    if not page.evaluate("() => Boolean(window.audit)"):
        page.evaluate(f"() => {{ {SCRIPT.read_text('utf-8')} }}")
