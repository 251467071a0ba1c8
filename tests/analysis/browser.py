"""A real browser without a screen: opens a page, plays a script in it, reads back the answer."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--enable-logging=stderr", "--virtual-time-budget=3000"),
)
SAYS = re.compile(r"CONSOLE[:(]\d+\)?\] (.*)")


@cache
def browser() -> str:
    """The browser's command; skips the test where there is none that starts."""
    for name in NAMES:
        if shutil.which(name):
            return name
    pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed (apt install chromium)")


def played(page: Path, script: str, profile: Path, width: int = 1100) -> tuple[str, list[str]]:
    """The text that the script returns when the page has loaded, and what the console said.

    The page is opened from a copy in a frame of `width` pixels; a browser's window may not be as
    narrow as a phone's.
    """
    probe = (
        "<script>addEventListener('load', () => setTimeout(() => { let said;"
        f"try {{ said = String((() => {{ {script} }})()); }} catch (e) {{ said = 'threw ' + e; }}"
        "parent.postMessage(said, '*'); }, 300));</script></body>"
    )
    profile.mkdir()
    copy = profile / "page.html"
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", probe), encoding="utf-8")
    outer = profile / "outer.html"
    outer.write_text(
        "<body><script>addEventListener('message', (m) => {"
        "const p = document.createElement('pre'); p.id = 'said';"
        "p.textContent = m.data; document.body.append(p); });</script>"
        f"<iframe src='{copy.as_uri()}' style='width:{width}px;height:2000px;border:0'></iframe>"
    )
    command = [browser(), *FLAGS, f"--user-data-dir={profile / 'profile'}", "--dump-dom"]
    done = subprocess.run(
        [*command, outer.as_uri()], capture_output=True, text=True, timeout=120, check=False
    )
    if "<html" not in done.stdout:
        pytest.skip(f"{browser()} does not start here: {done.stderr.strip()[-200:]}")
    found = re.search(r'<pre id="said">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, f"the page's script did not run: {done.stderr[-2000:]}"
    return html.unescape(found[1]), SAYS.findall(done.stderr)
