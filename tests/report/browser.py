"""A page in headless Chromium: what it shows, and what it asks the network for."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

# Pictures inside SVG have no natural size of their own, so each is loaded once more by itself.
PROBE = """<script>
addEventListener("load", async () => {
  const pictures = [...document.querySelectorAll("svg image, img")].map(
    (one) => one.getAttribute("xlink:href") || one.getAttribute("href") || one.src);
  const sizes = await Promise.all(pictures.map((source) => new Promise((resolve) => {
    const picture = new Image();
    picture.onload = () => resolve([picture.naturalWidth, picture.naturalHeight]);
    picture.onerror = () => resolve([0, 0]);
    picture.src = source;
  })));
  const sounds = await Promise.all([...document.querySelectorAll("audio")].map(
    (one) => one.readyState > 0 ? one.duration : new Promise((resolve) => {
      one.onloadedmetadata = () => resolve(one.duration);
      one.onerror = () => resolve(0);
      one.load();
    })));
  const drawings = [...document.querySelectorAll("svg")].map((one) => {
    const box = one.getBoundingClientRect();
    return [box.width, box.height];
  });
  const found = {
    sizes, sounds, drawings,
    requests: performance.getEntriesByType("resource").map((one) => one.name)
      .filter((name) => !name.startsWith("data:")),
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    ground: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.body).color,
    text: document.body.innerText,
  };
  document.body.innerHTML = "<pre id=found></pre>";
  document.getElementById("found").textContent = JSON.stringify(found);
});
</script>"""


def chromium() -> str:
    """The program; skips the test where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("chromium is not installed (apt-get install -y chromium)")
    return program


def look(page: Path, folder: Path, width: int = 1200, dark: bool = False) -> dict:
    """What the probe finds on a copy of the page, all details opened, ``width`` pixels wide."""
    program = chromium()
    text = page.read_text(encoding="utf-8").replace("<details>", "<details open>")
    text = re.sub(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", text)
    copy = folder / f"probed{width}{dark}.html"
    copy.write_text(text.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    command = [
        program,
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        f"--user-data-dir={folder / f'profile{width}{dark}'}",
        f"--window-size={width},900",
        *(["--force-dark-mode"] if dark else []),
        *("--virtual-time-budget=20000", "--dump-dom", copy.as_uri()),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="found">(.*?)</pre>', result.stdout, re.DOTALL)
    assert found, result.stderr[-2000:]
    return json.loads(html.unescape(found[1]))
