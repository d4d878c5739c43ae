"""The app lets nobody in without its token, listens on this machine alone, and ends kernels with pages."""

from __future__ import annotations

import asyncio
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from app_fixture import App, write_notebook
from browser import until
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from workbench.cli import main
from workbench.cli.app import DESKS, FOREIGN, SHOWN, desks, only_the_desk
from workbench.cli.main import notebooks

PAGE = "/voila/render/8_live_desk.ipynb"
NOBODY = "/api/kernels/12345678-1234-1234-1234-123456789012"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    root = tmp_path_factory.mktemp("notebooks")
    write_notebook(root / "8_live_desk.ipynb", "import os\ndesk = os.getcwd()\ndesk", "0 / 0")
    write_notebook(root / "other.ipynb", "0 / 0")
    (root / "picture.png").write_bytes(b"secret")
    made = App(root, tmp_path_factory.mktemp("app"), grace_s=0.5)
    yield made
    made.stop()


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("/", 200),
        ("/voila/static/voila.js", 200),
        ("/voila/labextensions/anywidget/package.json", 200),
        ("/voila/files/picture.png", 200),
        ("/voila/render/other.ipynb", 404),
        ("/voila/templates/lab/static/voila.js", 200),
        (NOBODY, 404),
        (f"{NOBODY}/channels", 404),
    ],
)
def test_everything_asks_for_the_token(app: App, path: str, inside: int) -> None:
    assert app.status(path) == 403
    assert app.status(f"{path}?token=wrong") == 403
    assert app.status(path, token=True) == inside
    assert app.status(f"{path}?token={app.token}") == inside


def test_who_has_no_token_starts_and_stops_nothing(app: App) -> None:
    assert app.status(PAGE) == 403
    assert app.status(f"/voila/api/shutdown/{NOBODY[13:]}", method="POST") == 403
    assert app.status(NOBODY, method="DELETE") == 403
    assert app.kernels == []


def test_it_listens_on_this_machine_alone_and_under_its_own_name(app: App) -> None:
    listening = [c for c in psutil.Process(app.server.pid).net_connections() if c.status == "LISTEN"]
    outside = [c.laddr for c in listening if c.laddr.ip != "127.0.0.1"]
    assert listening and outside == []
    assert app.address.startswith("http://127.0.0.1:") and len(app.token) == 48
    assert app.status("/", token=True, Host="elsewhere.example") == 403
    assert app.token not in app.log.read_text().replace(app.address, "")


def test_a_kernel_runs_beside_the_notebooks_and_ends_with_its_page(app: App) -> None:
    async def visit() -> None:
        base = app.base.replace("http", "ws")
        where = f"{base}/api/kernels/{app.kernels[0]}/channels"
        with pytest.raises(HTTPClientError, match="403"):
            await websocket_connect(where)
        headers = {"Authorization": f"token {app.token}"}
        page = await websocket_connect(HTTPRequest(where, headers=headers))
        await asyncio.sleep(1.0)
        assert len(app.kernels) == 1, "it lives as long as its page"
        page.close()

    text = _page(app)
    assert str(app.root) in text
    assert "ZeroDivisionError" not in text and "os.getcwd" not in text, "neither what follows nor code"
    asyncio.run(visit())
    until(lambda: not app.kernels, seconds=20, what="the end of the kernel")


def _page(app: App) -> str:
    with urllib.request.urlopen(f"{app.base}{PAGE}?token={app.token}", timeout=60) as answer:
        assert "frame-ancestors 'self'" in answer.headers["Content-Security-Policy"]
        assert "_xsrf=" in str(answer.headers), "or the page could not say that it is closed"
        return str(answer.read().decode())


def test_a_desk_s_page_ends_with_the_desk() -> None:
    found = desks(notebooks())
    assert {f"{name}.ipynb" for name in DESKS if name != "7_steer_lab"} <= set(found)
    for file, title in found.items():
        book: Any = only_the_desk(None, nbformat.read(notebooks() / file, as_version=4), "")
        assert title and not title.startswith("#")
        assert book.cells[-1].source in SHOWN, file
        assert not [cell for cell in book.cells if "answer = None" in cell.source], file
        for cell in book.cells[:-1]:
            assert cell.cell_type == "markdown" or cell.source not in SHOWN


def test_what_cannot_be_served_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from workbench.cli.app import serve
    from workbench.errors import WorkbenchError

    with pytest.raises(WorkbenchError, match="holds none of 3_steer"):
        serve(tmp_path, browser=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["app", "--no-browser", "--port", str(taken.getsockname()[1])]) == 1
    assert "another program listens there" in capsys.readouterr().err


def test_style_sheets_of_other_machines_are_left_out_of_a_page():
    own = '<link rel="stylesheet" href="/voila/static/a.css">'
    foreign = '<link rel="stylesheet" href="https://cdn.example.org/a@^5/b.css" type="text/css" />'
    assert FOREIGN.sub("", f"<head>{own}{foreign}<p>https://a.b</p>") == f"<head>{own}<p>https://a.b</p>"
    assert FOREIGN.sub("", "<LINK href='//cdn.example.org/a.css'>") == ""
