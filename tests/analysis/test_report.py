"""The report: what is in the file, and what a real browser makes of it."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis import plots, report_data
from analysis.cli import main
from analysis.report import embedded, page, write_report
from analysis.report_data import payload
from analysis.rows import load
from tests.analysis.browser import played
from tests.analysis.simulated import Simulated, write

NASTY = "</script><script>alert(1)</script><!-- & \u2028"


def webp() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 120, np.uint8)).save(buffer, "WEBP")
    return buffer.getvalue()


def film(run: Path, tasks: list[str]) -> None:
    (run / "film").mkdir()
    for task in tasks:
        (run / "film" / f"{task}.webp").write_bytes(webp())
    entries = {task: {"success": True, "return": 12.5, "frames": 1} for task in tasks}
    (run / "film" / "film.json").write_text(json.dumps({"run": run.name, "tasks": entries}))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        for width in (256, 512):
            write(folder, Simulated("mtsac", seed, width, width, evaluations=4))
        mega = write(folder, Simulated("mega", seed, 512, 512, skill=0.9, evaluations=4))
        film(mega, ["reach-v3", "push-v3"])
    write(folder, Simulated("mtsac", 0, 256, 256, tasks=25, evaluations=4))
    return load([folder])


@pytest.fixture(scope="module")
def report(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "report.html"
    return write_report(rows, out, f"A study {NASTY}", say=lambda _: None)


def test_the_page_has_everything_in_it_and_asks_nobody(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", text)
    assert "http://www.w3.org/2000/svg" in text  # a name, not an address
    addresses = set(re.findall(r"https?://[^\s\"'<>)\\]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert "data:image/webp;base64," in text
    assert "data:image/png;base64," in text


@pytest.mark.parametrize("text", [NASTY, "]]>", "a & b < c"])
def test_no_text_can_end_the_data_early(text: str) -> None:
    data = embedded({"title": text})
    assert not set("<>&\u2028") & set(data)
    assert json.loads(data)["title"] == text


def test_text_that_looks_like_a_place_in_the_template_stays_text() -> None:
    made = page({"title": "@@SCRIPT@@"})
    assert made.count('"title":"@@SCRIPT@@"') == 1


def test_the_table_has_the_rows_numbers(rows: pd.DataFrame) -> None:
    data = payload(rows, "x")
    mt10 = next(b for b in data["benchmarks"] if b["name"] == "MT10-preset")
    mega = next(c for c in mt10["configurations"] if c["algorithm"] == "mega")
    last = rows[(rows["label"] == mega["label"]) & (rows["env_step"] == rows["env_step"].max())]
    own = rows[(rows["label"] == mega["label"]) & (rows["metric"] == "success")]
    own = own[own["env_step"] == own["env_step"].max()]
    assert last.empty  # MT25 runs are longer: a benchmark's own last step counts
    assert mega["aggregates"]["mean"][0] == pytest.approx(own["value"].mean(), abs=1e-4)
    assert mega["tasks"]["push-v3"] == pytest.approx(
        own[own["task"] == "push-v3"]["value"].mean(), abs=1e-4
    )


def test_every_run_has_its_configuration_and_provenance(rows: pd.DataFrame) -> None:
    runs = {run["run"]: run for run in payload(rows, "x")["runs"]}
    assert len(runs) == 7
    run = runs["mtsac-MT10-a512-c512-s1"]
    assert run["config"]["settings"]["actor_width"] == 512
    assert run["provenance"][0]["processor"] == "a <processor> & more"
    assert Path(run["source"]).is_file()


def test_planned_comparisons_are_those_with_the_named_control_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {(10, 256): "mtsac d2r paco moore care film", (25, 256): "mtsac d2r paco",
             (25, 512): "mtsac d2r"}  # fmt: skip
    for (tasks, width), methods in there.items():
        for name in methods.split():
            for seed in range(5):
                run = Simulated(name, seed, width, width, tasks, evaluations=2)
                write(tmp_path / "rows", run)
    monkeypatch.setattr(plots, "FIGURES", {"matched": plots.FIGURES["matched"]})
    monkeypatch.setattr(plots, "ACROSS", {})
    control = {"against": "mtsac tasks=MT25 width=256", "planned": 4}
    frame = load([tmp_path / "rows"])
    out = write_report(frame, tmp_path / "report.html", say=lambda _: None, **control)
    corrected = re.findall(r"corrected for ([^()]*) \(Holm\)", out.read_text(encoding="utf-8"))
    assert corrected == [
        "5 comparisons",
        "4 comparisons, of which 2 can be made so far; 1 comparison",
    ]


def test_films_are_those_of_one_run_a_configuration(rows: pd.DataFrame) -> None:
    runs = payload(rows, "x")["runs"]
    shown = [run["run"] for run in runs if run["films"]]
    assert shown == ["mega-MT10-a512-c512-s0"]
    assert set(next(run for run in runs if run["films"])["films"]) == {"reach-v3", "push-v3"}


def test_films_stop_at_their_size_and_say_so(
    rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_data, "FILM_BYTES", len(webp()) * 3 // 2)
    data = payload(rows, "x")
    assert sum(len(run["films"]) for run in data["runs"]) == 1
    assert any("films left out" in note for note in data["notes"])


def test_curves_are_thinned_but_keep_their_ends() -> None:
    from analysis.scores import Curves

    steps = np.arange(1, 1001)
    thin = report_data.thinned(Curves(steps, np.stack([steps / 1000.0]), (0,)))
    assert len(thin.steps) == report_data.POINTS
    assert (thin.steps[0], thin.steps[-1]) == (1, 1000)
    assert thin.values[0].tolist() == (thin.steps / 1000).tolist()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_have_are_none(value: float) -> None:
    assert report_data.number(value) is None
    assert json.loads(embedded(report_data.finite({"a": [value]})))


def test_a_report_that_is_no_page_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--out", "report.pdf"]) == 2
    assert "end it in .html" in capsys.readouterr().err


JOURNEY = """
const q = (s) => document.querySelector(s), all = (s) => [...document.querySelectorAll(s)];
const press = (text) => all('.chip').find((c) => c.textContent === text).click();
const firsts = (s) => all(s + ' tbody tr').map((r) => r.cells[0].textContent);
const table = all('table')[0], seen = {};
seen.title = q('h1').textContent;
seen.lines = all('#curves path[data-label]').length;
press('all mtsac');
seen.without = all('#curves path[data-label]').map((p) => p.dataset.label);
press('all mtsac');
const head = [...table.querySelectorAll('th')].findIndex((h) => h.textContent === 'mean');
const column = () => [...table.querySelectorAll('tbody tr')].map((r) => +r.cells[head].textContent);
table.querySelectorAll('th button')[head].click();
seen.falling = column();
seen.aria = table.querySelectorAll('th')[head].getAttribute('aria-sort');
table.querySelectorAll('th button')[head].click();
seen.rising = column();
const names = () => [...table.querySelectorAll('tbody tr')].map((r) => r.cells[0].textContent);
table.querySelectorAll('th button')[0].click();
seen.names = names();
table.querySelectorAll('th button')[0].click();
seen.reversed = names();
all('#tasks td button').find((b) => b.textContent === 'push').click();
seen.task = q('#chosen').textContent;
seen.films = all('.films img').length;
seen.caption = q('.films figcaption').textContent;
all('#tasks td button').find((b) => b.textContent === 'door-open').click();
seen.note = q('#task').textContent;
const run = q('#details details'); run.open = true;
run.dispatchEvent(new Event('toggle'));
seen.details = run.textContent;
seen.figures = all('.gallery img').length;
press('MT25-preset');
seen.other = all('#tasks tbody tr').length;
return JSON.stringify(seen);
"""


def test_a_browser_shows_sorts_toggles_and_drills_without_console_errors(
    report: Path, tmp_path: Path
) -> None:
    answer, console = played(report, JOURNEY, tmp_path / "browser")
    assert console == []
    seen: dict[str, Any] = json.loads(answer)
    assert seen["title"] == f"A study {NASTY}"
    assert seen["lines"] == 3
    assert seen["without"] == ["mega"]
    assert seen["falling"] == sorted(seen["falling"], reverse=True)
    assert seen["rising"] == sorted(seen["falling"])
    assert seen["aria"] == "descending"
    assert seen["names"] == ["mega", "mtsac width=256", "mtsac width=512"]
    assert seen["reversed"] == seen["names"][::-1]
    assert seen["task"] == "push"
    assert seen["films"] == 1
    assert "one episode: success, return 13" in seen["caption"]
    assert ".venv/bin/python -m suite film" in seen["note"]
    assert "a <processor> & more" in seen["details"]
    assert '"actor_width": 512' in seen["details"]
    assert seen["figures"] > 5
    assert seen["other"] == 25


WIDTHS = """
const wide = [...document.querySelectorAll('body *')].filter((e) => !e.closest('.wide, pre, svg')
  && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.tagName + '.' + e.className);
const small = [...document.querySelectorAll('.chip')].filter((c) => c.offsetHeight < 32).length;
return JSON.stringify([innerWidth, document.documentElement.scrollWidth, wide, small]);
"""


def test_a_phone_needs_no_sideways_scrolling(report: Path, tmp_path: Path) -> None:
    answer, console = played(report, WIDTHS, tmp_path / "browser", width=390)
    width, needed, wide, small = json.loads(answer)
    assert console == []
    assert width == 390
    assert needed <= 390
    assert wide == []
    assert small == 0


READ = """
const svg = document.querySelector('#curves svg'), box = svg.getBoundingClientRect();
const read = (share) => {
  const clientX = box.left + 38 + share * (box.width - 38 - 20);
  svg.dispatchEvent(new PointerEvent('pointermove', { clientX }));
  return document.querySelector('#curves .readout').textContent;
};
return JSON.stringify([0.1, 0.5, 0.75].map(read));
"""


def test_a_readout_has_no_value_of_a_curve_beyond_its_ends(
    rows: pd.DataFrame, tmp_path: Path
) -> None:
    mt10 = rows[rows["task_set"] == "MT10"]
    # Of four evaluations MEGA has two, at a quarter and at the half.
    frame = mt10[(mt10["algorithm"] != "mega") | (mt10["env_step"] <= 10_000_000)]
    out = write_report(frame, tmp_path / "x.html", with_figures=False, say=lambda _: None)
    answer, console = played(out, READ, tmp_path / "browser")
    assert console == []
    before, at_its_end, beyond = json.loads(answer)
    assert re.fullmatch(r"[12](\.\d+)?M", before)
    for readout, names in (
        (at_its_end, ["mega", "mtsac width=256", "mtsac width=512"]),
        (beyond, ["mtsac width=256", "mtsac width=512"]),
    ):
        _, _, values = readout.partition(": ")
        assert [value.rpartition(" ")[0] for value in values.split(" · ")] == names


def test_an_error_in_the_page_would_be_seen(report: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    text = report.read_text(encoding="utf-8").replace(
        "function summary(b) {", "function other(b) {"
    )
    broken.write_text(text, encoding="utf-8")
    _, console = played(broken, "return 1", tmp_path / "browser")
    assert any("summary is not defined" in line for line in console)
