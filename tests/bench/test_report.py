# SPDX-License-Identifier: Apache-2.0
"""The report's page in a real browser: what it draws, what it says, and that it is quiet.

RINGPOST_BENCH is the program. RINGPOST_SHOTS=FOLDER keeps pictures of the page, to be looked at.
"""
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess

import pytest

import browser
import fixtures

HOSTILE = '</script><img src=x onerror="window.hit=1"><!--<script>'
CHARTS = ["delivered", "queued", "accept", "end_to_end", "relay_cpu", "pss"]


def report(out, *results):
    return subprocess.run([os.environ["RINGPOST_BENCH"], "report", "--out", out, *results],
                          capture_output=True, text=True, timeout=60, check=False)


def write_page(folder, *results):
    """A page of results given as objects, in that order."""
    paths = []
    for number, result in enumerate(results):
        paths.append(folder / f"result-{number}.json")
        paths[-1].write_text(json.dumps(result))
    done = report(folder / "page.html", *paths)
    assert done.returncode == 0, done.stderr
    return folder / "page.html"


@pytest.fixture(scope="module", name="chrome")
def start_chrome():
    if shutil.which("chromium") is None:
        pytest.fail("chromium is not installed: tests/packages.sh test")
    with browser.Browser() as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_to_complain_of(request):
    """After each test: no error in the console, and nothing asked for but the page itself."""
    if "chrome" not in request.fixturenames:
        yield
        return
    chrome = request.getfixturevalue("chrome")
    chrome.problems.clear()
    chrome.requests.clear()
    chrome.view(1280)
    yield
    assert chrome.problems == []
    assert [url for url in chrome.requests if not url.startswith(("file:", "data:"))] == []


@pytest.fixture(scope="module", name="all_results")
def all_results_on_one_page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    paths = fixtures.write_all(folder)
    done = report(folder / "page.html", *paths)
    assert done.returncode == 0, done.stderr
    return folder / "page.html", [json.loads(path.read_text()) for path in paths]


def cells(chrome, scenario=0, row=None):
    """The cells of a scenario's table as {row: {run: [value, text]}}."""
    found = {}
    for name, run, value, text in chrome.script(f"""
            [...document.querySelectorAll('#scenario-{scenario} .runs td[data-row]')].map((td) =>
                [td.dataset.row, td.dataset.run, td.dataset.value, td.innerText])"""):
        found.setdefault(name, {})[run] = [float(value) if value else None, text]
    return found[row] if row else found


def lines(chrome, chart, scenario=0, selector=".line:not(.faint)"):
    """{run: number of points} of the lines of a chart, all of them inside of the plot."""
    drawn = {}
    for run, path, width, height in chrome.script(f"""
            [...document.querySelectorAll('#scenario-{scenario} [data-chart={chart}] {selector}')]
                .map((p) => [p.dataset.run, p.getAttribute('d'),
                    p.ownerSVGElement.width.baseVal.value,
                    p.ownerSVGElement.height.baseVal.value])"""):
        points = re.findall(r"[ML]([\d.-]+) ([\d.-]+)", path)
        assert all(0 <= float(x) <= width and 0 <= float(y) <= height for x, y in points), path
        drawn[run] = drawn.get(run, 0) + len(points)
    return drawn


def shoot(chrome, name):
    folder = os.environ.get("RINGPOST_SHOTS")
    if folder:
        chrome.screenshot(pathlib.Path(folder) / f"{name}.png", whole=False)


def test_charts_are_drawn_from_the_series(chrome, all_results):
    page, results = all_results
    chrome.open(page)
    for number, scenario in enumerate(fixtures.SCENARIOS):
        for chart in CHARTS:
            assert set(lines(chrome, chart, number)) == set(fixtures.RELAYS), (scenario, chart)
        faint = lines(chrome, "delivered", number, ".line.faint")
        assert set(faint) == set(fixtures.RELAYS)
        for label in fixtures.RELAYS:
            runs = sorted((r for r in results if (r["scenario"], r["label"]) == (scenario, label)),
                          key=lambda r: r["rate"]["delivered_per_s"])
            strong = lines(chrome, "delivered", number)[label]
            assert strong == len(runs[1]["series"]["t_s"])
            assert faint[label] == sum(len(runs[i]["series"]["t_s"]) for i in (0, 2))
            bounds = {b for r in runs for b, _ in r["latency_us"]["accept"]["buckets"]}
            assert lines(chrome, "accept", number)[label] == len(bounds) + 1
    assert chrome.script("document.querySelectorAll('[data-chart=errors]').length") == 0


def test_the_table_has_the_medians(chrome, all_results):
    page, results = all_results
    chrome.open(page)
    table = cells(chrome)
    reference = None
    for label in fixtures.RELAYS:
        runs = [r for r in results if (r["scenario"], r["label"]) == ("1 KiB, lockstep", label)]
        rates = sorted(r["rate"]["delivered_per_s"] for r in runs)
        median = statistics.median(rates)
        reference = reference or median
        value, text = table["delivered"][label]
        assert value == pytest.approx(median)
        digits = [re.sub(r"\D", "", part) for part in re.split(r"[\n–]", text)]
        assert digits == [f"{rate:.0f}" for rate in (median, rates[0], rates[2])]
        assert table["ratio"][label][0] == pytest.approx(median / reference)
        for row, of in (("accept.p99", lambda r: r["latency_us"]["accept"]["p99"]),
                        ("end_to_end.p999", lambda r: r["latency_us"]["end_to_end"]["p999"]),
                        ("end_to_end.max", lambda r: r["latency_us"]["end_to_end"]["max"]),
                        ("share", lambda r: r["rate"]["share_without_relay"]),
                        ("cpu_mail", lambda r: r["relay"]["cpu_us_per_mail"]),
                        ("pss", lambda r: r["relay"]["pss_peak_bytes"]),
                        ("switches", lambda r: r["relay"]["context_switches"]
                         / r["totals"]["mails_offered"]),
                        ("written", lambda r: r["relay"]["bytes_written"]
                         / r["totals"]["mails_offered"])):
            assert table[row][label][0] == pytest.approx(statistics.median(map(of, runs))), row
        assert table["option.connections"][label][1] == "64"
        assert table["recipients_accepted"][label][0] == sum(
            r["totals"]["recipients_accepted"] for r in runs)


def test_no_text_is_a_slip_of_the_script(chrome, all_results):
    chrome.open(all_results[0])
    chrome.script("document.querySelectorAll('details').forEach((d) => d.open = true)")
    text = chrome.script("document.body.innerText")
    assert re.findall(r"\b(?:undefined|null|NaN|Infinity)\b|\[object", text) == []


def test_one_lost_mail_in_one_run_is_red(chrome, all_results):
    chrome.open(all_results[0])
    assert cells(chrome, 1, "lost")["wren"] == [3, "3\nin 1 of 3 runs"]
    red = chrome.script("[...document.querySelectorAll('td.bad')].map((td) =>"
                        " [td.dataset.run, td.dataset.row, getComputedStyle(td).color])")
    assert red == [["wren", "lost", "rgb(180, 35, 24)"]]
    verdict = chrome.script("document.querySelector('.verdict').innerText")
    assert verdict == "Accepted mail was lost: wren lost 3 in 1\u00a0run."


def test_without_loss_the_verdict_is_good(chrome, tmp_path):
    chrome.open(write_page(tmp_path, fixtures.make_result(run=1), fixtures.make_result(run=2)))
    assert chrome.script("document.querySelectorAll('td.bad').length") == 0
    assert chrome.script("document.querySelector('.verdict.good').innerText") == \
        "No accepted mail was lost in any of these 2 runs."


def test_the_reference_can_be_chosen(chrome, all_results):
    chrome.open(all_results[0])
    before = cells(chrome, row="ratio")
    assert before["ringpost"][0] == 1
    chrome.script("""(() => {
        const select = document.getElementById('reference');
        select.value = 'heron';
        select.dispatchEvent(new Event('change'));
    })()""")
    after = cells(chrome, row="ratio")
    assert after["heron"][0] == 1
    assert after["ringpost"][0] == pytest.approx(1 / before["heron"][0])
    bars = chrome.script("""[...document.querySelectorAll('#summary .bars')].map((svg) =>
        [...svg.querySelectorAll('rect')].map((r) =>
            [r.dataset.run, Number(r.dataset.value), r.width.baseVal.value]))""")
    assert len(bars) == len(fixtures.SCENARIOS)
    for rows in bars:
        widths = {run: (value, width) for run, value, width in rows}
        assert widths["heron"][0] == 1
        for value, width in widths.values():
            assert width == pytest.approx(value * widths["heron"][1], abs=1.5)


def test_a_run_is_hidden_and_shown_by_its_name(chrome, all_results):
    chrome.open(all_results[0])
    chip = '.chip[data-run="ringpost"]'
    rate_axis = "document.querySelector('[data-chart=delivered] .axes').textContent"
    wide = chrome.script(rate_axis)
    chrome.click(chip)
    for chart in CHARTS:
        assert set(lines(chrome, chart)) == set(fixtures.RELAYS) - {"ringpost"}
    assert chrome.script(rate_axis) != wide  # what is left takes the room
    assert chrome.script(f"document.querySelector('{chip}').ariaPressed") == "false"
    for other in list(fixtures.RELAYS)[1:]:
        chrome.click(f'.chip[data-run="{other}"]')
    empty = chrome.script("document.querySelector('[data-chart=delivered] .empty').innerText")
    assert empty == "All runs are hidden."
    for label in fixtures.RELAYS:
        chrome.click(f'.chip[data-run="{label}"]')
    assert set(lines(chrome, "delivered")) == set(fixtures.RELAYS)
    assert chrome.script(rate_axis) == wide


def test_the_pointer_and_the_keys_read_a_chart(chrome, tmp_path):
    result = fixtures.make_result()
    chrome.open(write_page(tmp_path, result, fixtures.make_result("heron")))
    host = "[data-chart=delivered] .plot-host"
    chrome.move(host, 0.5)
    tip = chrome.script(f"document.querySelector('{host} .tip').innerText")
    second = int(re.match(r"at (\d+) s", tip).group(1))
    rate = result["series"]["delivered"][second - 1]
    assert re.search(r"ringpost\s+([\d\u202f]+)/s", tip).group(1).replace("\u202f", "") == str(rate)
    assert "heron" in tip
    assert chrome.script(f"document.querySelectorAll('{host} .marks circle').length") == 2
    chrome.script(f"document.querySelector('{host}').focus()")
    chrome.press("ArrowRight")
    tip = chrome.script(f"document.querySelector('{host} .tip').innerText")
    assert tip.startswith(f"at {second + 1} s")
    chrome.press("Escape")
    assert chrome.script("document.querySelectorAll('.tip').length") == 0
    chrome.move("[data-chart=accept] .plot-host", 0.6)
    tip = chrome.script("document.querySelector('[data-chart=accept] .tip').innerText")
    assert re.match(r"[\d.]+ % of mails", tip)
    shoot(chrome, "tip")


def test_the_percentiles_of_the_chart_are_those_of_the_table(chrome, tmp_path):
    result = fixtures.make_result()
    chrome.open(write_page(tmp_path, result))
    at = chrome.script("""(() => {
        const run = data.scenarios(JSON.parse(document.getElementById('results').textContent)
            .results)[0].runs[0];
        const points = data.distribution(run, 'end_to_end');
        return [2, 100, 1000].map((x) => points.find((p) => p[0] >= x - 1e-6)[1]);
    })()""")
    latency = result["latency_us"]["end_to_end"]
    assert at == [latency[name] for name in ("p50", "p99", "p999")]


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone(chrome, all_results, dark):
    chrome.view(390, 844, dark=dark, phone=True)
    chrome.open(all_results[0])
    assert chrome.script("document.documentElement.scrollWidth") <= 390
    assert chrome.script("""[...document.querySelectorAll('.plot')].every((svg) =>
        svg.getBoundingClientRect().right <= 390)""")
    assert set(lines(chrome, "delivered")) == set(fixtures.RELAYS)
    chrome.move("[data-chart=delivered] .plot-host", 0.7)
    edges = chrome.script("""(({ left, right }) => [left, right])(
        document.querySelector('.tip').getBoundingClientRect())""")
    assert edges[0] >= 0 and edges[1] <= 390
    shoot(chrome, "phone-dark" if dark else "phone")


def contrast(one, other):
    def luminance(color):
        parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_lines_stand_out_in_both_schemes(chrome, all_results, dark):
    chrome.view(1280, dark=dark)
    chrome.open(all_results[0])
    card = chrome.script("getComputedStyle(document.querySelector('.card')).backgroundColor")
    texts = chrome.script("""['.runs td', '.note', '.runs td.bad', '.runs td.best'].map((s) =>
        [s, getComputedStyle(document.querySelector(s)).color])""")
    for selector, color in texts:
        assert contrast(color, card) >= 4.5, selector
    strokes = chrome.script("""[...Array(8).keys()].map((i) => {
        const line = document.querySelector('.plot .line');
        line.setAttribute('stroke', `var(--run-${i})`);
        return getComputedStyle(line).stroke;
    })""")
    assert len(set(strokes)) == 8
    for color in strokes:
        assert contrast(color, card) >= 3, color
    assert (contrast(card, "rgb(0, 0, 0)") < 3) == dark
    shoot(chrome, "desktop-dark" if dark else "desktop")


def test_it_prints_in_black_on_white(chrome, all_results, tmp_path):
    chrome.view(794, 1123, dark=True, media="print")
    chrome.open(all_results[0])
    assert chrome.script("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert chrome.script("getComputedStyle(document.getElementById('bar')).position") == "static"
    assert chrome.script("document.documentElement.scrollWidth") <= 794
    chrome.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    shoot(chrome, "print")


def test_hostile_text_stays_text(chrome, tmp_path):
    result = fixtures.make_result(more_options={"mode": HOSTILE, "__proto__": HOSTILE})
    result.update(label=HOSTILE, scenario=HOSTILE, started=HOSTILE)
    result["machine"] = {**result["machine"], "cpu": HOSTILE}
    result["relay"]["processes"][0]["name"] = HOSTILE
    page = write_page(tmp_path, result)
    chrome.open(page)
    assert chrome.script("document.querySelector('h1').innerText") == HOSTILE
    assert chrome.script("window.hit") is None
    assert chrome.script("document.images.length") == 0
    assert page.read_text().count("</script>") == 2


def test_runs_of_other_options_are_told_apart(chrome, tmp_path):
    runs = [fixtures.make_result(run=run, more_options={"connections": connections})
            for connections in ("8", "64") for run in (1, 2)]
    chrome.open(write_page(tmp_path, *runs))
    rates = cells(chrome, row="delivered")
    assert list(rates) == ["ringpost · connections 8", "ringpost · connections 64"]
    assert "–" in rates["ringpost · connections 8"][1]  # a range of two


def test_what_a_reader_should_know_is_said(chrome, tmp_path):
    fast = fixtures.make_result()
    fast["rate"]["share_without_relay"] = 0.91
    fast["rate"]["without_relay_after_per_s"] = fast["rate"]["without_relay_before_per_s"] * 0.8
    slow = fixtures.make_result(run=2)
    slow["rate"]["delivered_per_s"] /= 2
    slow["machine"] = {**slow["machine"], "cpus": 4}
    slow["series"]["errors"][3] = 7
    chrome.open(write_page(tmp_path, fast, slow))
    said = chrome.script("document.querySelector('.cautions').innerText")
    for text in ("the machine was not steady", "its fastest run has"):
        assert text in said
    assert "different machines" in chrome.script("document.getElementById('top').innerText")
    assert lines(chrome, "errors") == {"ringpost": len(slow["series"]["t_s"])}
    chrome.open(write_page(tmp_path, fast))
    assert "source and sink limit this figure" in chrome.script(
        "document.querySelector('.cautions').innerText")


def test_results_of_source_and_sink_alone_are_shown(chrome, tmp_path):
    source, sink = fixtures.make_result(), fixtures.make_result("heron")
    source["command"] = "source"
    source["series"]["delivered"] = [0] * len(source["series"]["t_s"])
    for member in ("recipients_delivered", "lost", "duplicated", "unacknowledged_delivered"):
        del source["totals"][member]
    del source["rate"]["delivered_per_s"], source["latency_us"]["end_to_end"]
    sink["command"] = "sink"
    sink["totals"] = {"recipients_caught": 100, "connections": 1}
    del sink["latency_us"], sink["rate"], sink["time"]
    del source["relay"], sink["relay"], source["scenario"], sink["scenario"]
    chrome.open(write_page(tmp_path, source, sink))
    assert set(lines(chrome, "delivered")) == {"heron"}
    assert set(lines(chrome, "accept")) == {"ringpost"}
    assert chrome.script("document.querySelectorAll('.verdict').length") == 0  # nothing to judge
    drawn = "[...document.querySelectorAll('[data-chart]')].map((card) => card.dataset.chart)"
    assert chrome.script(drawn) == ["delivered", "accept"]
    table = cells(chrome)
    assert table["accepted"]["heron"] == [None, "–"]
    assert table["recipients_caught"]["heron"] == [100, "100"]
    assert table["recipients_accepted"]["ringpost"][0] == source["totals"]["recipients_accepted"]
    assert re.findall(r"undefined|NaN|null", chrome.script("document.body.innerText")) == []


def test_a_long_run_is_drawn_with_few_points(chrome, tmp_path):
    result = fixtures.make_result()
    hours = 6 * 3600
    for name, values in result["series"].items():
        if isinstance(values, list):
            result["series"][name] = [values[i % 20] for i in range(hours)]
    result["series"]["t_s"] = list(range(1, hours + 1))
    chrome.open(write_page(tmp_path, result))
    assert lines(chrome, "delivered") == {"ringpost": 600}


def test_a_wrong_result_is_named_and_the_page_stays(tmp_path):
    page = write_page(tmp_path, fixtures.make_result())
    before = page.read_text()
    result = fixtures.make_result()
    del result["rate"]["delivered_per_s"]
    (tmp_path / "wrong.json").write_text(json.dumps(result))
    done = report(page, tmp_path / "result-0.json", tmp_path / "wrong.json")
    assert done.returncode != 0
    assert f"{tmp_path}/wrong.json: rate.delivered_per_s is missing" in done.stderr
    assert page.read_text() == before
