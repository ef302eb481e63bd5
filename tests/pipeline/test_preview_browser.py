"""The live page in a browser: a real click, a real drag, and a program that is restarted."""

import shutil
from contextlib import contextmanager

import numpy as np
import pytest

from tests.support.preview import Run, result, source_status, until

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,800",
]

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="THE LIVE PAGE IS NOT TESTED IN A BROWSER: needs chromium and chromedriver"
    " (on Debian: apt install chromium chromium-driver)",
)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, .[test]")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("chromium")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


class Page:
    """The page as a user sees and operates it."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, url, width=1280, height=800):
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        self.driver.get(url)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def one(self, selector):
        (element,) = self.all(selector)
        return element

    def shows(self, selector, text):
        """Wait until the element has the text, or any text if `text` is empty."""
        from selenium.common.exceptions import StaleElementReferenceException

        def there():
            try:
                found = self.all(selector)
                return bool(found) and text in found[0].text and bool(found[0].text)
            except StaleElementReferenceException:  # the page is being replaced
                return False

        return until(there, 30)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def errors(self):
        return [line["message"] for line in self.driver.get_log("browser")]


@pytest.fixture
def page(chromium):
    chromium.get("about:blank")
    chromium.get_log("browser")
    return Page(chromium)


@contextmanager
def open_page(page, run, **options):
    with run.server() as server, run.feeding(lambda: result(180, 540, 960)):
        page.open(server.url, **options)
        assert page.shows("#link", "Live")
        yield server


def test_the_page_shows_picture_figures_and_state(page):
    with open_page(page, Run()):
        assert page.shows(".source .badge", "Connected")
        assert page.one(".source h2").text == "rtsp://***@camera0/"
        assert page.one("#model").text == "squeezedrive-v3 · cpu int8"
        assert page.one("#uptime").text == "running 1 h 0 min"
        figures = {
            element.get_attribute("data-figure"): element.text
            for element in page.all(".source [data-figure]")
        }
        assert figures == {
            "fps": "15",
            "p50": "61",
            "p95": "84",
            "p99": "119",
            "dropped": "510",
            "remarks": "500 overtaken, 10 too old, connected again 2 times",
        }
        found = [element.text.split("\n") for element in page.all(".found > div")]
        assert found == [
            ["car", "3", "1,234 in all"],
            ["pedestrian", "1", "56 in all"],
            ["cyclist", "0", "7 in all"],
        ]
        assert until(lambda: page.one(".picture img").is_displayed(), 30)
        assert page.one(".picture img").size["width"] > 700
        assert not page.one(".veil").is_displayed()
        grey: list[int] = []

        def drawn() -> bool:  # false while the element loads the next picture
            grey[:] = page.run(
                "const c = document.createElement('canvas').getContext('2d');"
                "c.drawImage(arguments[0], 0, 0);"
                "return Array.from(c.getImageData(9, 9, 1, 1).data)",
                page.one(".picture img"),
            )
            return grey[3] > 0

        assert until(drawn, 30)
        np.testing.assert_allclose(grey, [180, 180, 180, 255], atol=2)
        asked = "return performance.getEntriesByType('resource').map((e) => e.name)"
        assert until(lambda: sum("/pictures/0" in name for name in page.run(asked)) >= 5, 30)
        pictures = [name for name in page.run(asked) if "/pictures/0" in name]
        assert len(set(pictures)) == len(pictures)  # no picture is requested twice
        assert not page.errors()  # the end of the server would be an error


def test_a_click_on_a_class_acts_at_once_and_is_confirmed(page):
    run = Run()
    with open_page(page, run):
        assert page.shows("#classes", "cyclist")
        button = page.one("#classes button[value=pedestrian]")
        assert button.get_attribute("aria-pressed") == "true"
        button.click()
        assert until(lambda: run.controls.classes == ["car", "cyclist"])
        assert page.shows("#answer", "In force: 0.40, car, cyclist")
        assert button.get_attribute("aria-pressed") == "false"
        assert page.shows("#classes button[value=pedestrian]", "hidden")
        button.click()
        assert until(lambda: run.controls.classes == ["car", "pedestrian", "cyclist"])
        assert not page.errors()  # the end of the server would be an error


def test_a_drag_of_the_slider_acts_at_once_and_is_confirmed(page):
    from selenium.webdriver import ActionChains

    run = Run()
    with open_page(page, run):
        assert page.shows("#answer", "In force")
        slider = page.one("#threshold")
        width = slider.size["width"] - 38  # the thumb is 38 wide; its middle marks the value
        grab = ActionChains(page.driver).move_to_element_with_offset(slider, round(-0.1 * width), 0)
        grab.click_and_hold().move_by_offset(round(0.4 * width), 0).release().perform()
        assert until(lambda: abs(run.controls.threshold - 0.8) < 0.05)
        assert until(lambda: page.one("#threshold-value").text == f"{run.controls.threshold:.2f}")
        assert page.shows("#answer", f"In force: {run.controls.threshold:.2f}")
        before = run.controls.threshold
        page.one("[aria-label='Lower threshold']").click()
        assert until(lambda: abs(run.controls.threshold - (before - 0.05)) < 0.001)
        slider.send_keys("\ue012")  # the left arrow key
        assert until(lambda: abs(run.controls.threshold - (before - 0.06)) < 0.001)
        assert not page.errors()  # the end of the server would be an error


def test_changes_of_another_client_are_shown(page):
    run = Run()
    with open_page(page, run):
        assert page.shows("#threshold-value", "0.40")
        run.controls.change(threshold=0.7, classes=["car"])
        assert page.shows("#threshold-value", "0.70")
        assert page.shows("#classes button[value=cyclist]", "hidden")


def test_a_refusal_is_shown_and_the_old_value_stays(page):
    run = Run()
    with open_page(page, run):
        assert page.shows("#answer", "In force")

        def refuse(threshold=None, classes=None):
            raise ValueError("threshold: not today")

        run.controls.change = refuse
        page.one("[aria-label='Higher threshold']").click()
        assert page.shows("#answer", "Not set: threshold: not today")
        assert page.one("#threshold-value").text == "0.40"


def test_the_states_of_cameras_are_shown(page):
    run = Run(4)
    run.sources[1] = source_status(1, state="stalled", since_s=7.0, age_ms=7400.0)
    run.sources[2] = source_status(2, state="reconnecting", since_s=95.0, age_ms=99e3)
    run.sources[3] = source_status(3, state="given up", age_ms=None, since_s=7300.0, processed=0)
    with open_page(page, run):
        assert page.shows("[data-state='given up'] .badge", "Given up 2 h 1 min")
        assert page.shows("[data-state='stalled'] .badge", "Stalled 7 s")
        assert page.shows("[data-state='reconnecting'] .badge", "Reconnecting 1 min 35 s")
        assert page.shows("[data-state='stalled'] .veil", "This picture is 7 s old")
        assert page.shows("[data-state='given up'] .veil", "No picture yet")
        assert len({element.location["x"] for element in page.all(".source")}) == 2  # two columns
        assert until(lambda: all(image.is_displayed() for image in page.all("img")), 30)
        del run.sources[2:]
        assert until(lambda: len(page.all(".source")) == 2, 30)
        assert not page.errors()  # the end of the server would be an error


def test_shows_a_lost_connection_and_reconnects(page):
    run = Run()
    with open_page(page, run) as server:
        port = int(server.url.rstrip("/").rpartition(":")[2])
        assert not page.one("#lost").is_displayed()
    assert page.shows("#lost", "Connection to the program lost.")
    assert page.one("#link").text == "Lost"
    again = Run()
    again.sources[0]["name"] = "the same camera, another run"
    with again.server(port), again.feeding(lambda: result(60, 540, 960)):
        assert page.shows("#link", "Live")
        assert not page.one("#lost").is_displayed()
        assert page.shows(".source h2", "the same camera, another run")
        src = page.one(".picture img").get_attribute("src")
        assert until(lambda: page.one(".picture img").get_attribute("src") != src, 30)


def test_the_password_is_asked_for_once(page):
    run = Run()
    with run.server(token="pass word") as server:
        page.open(server.url)
        field = page.one("input[type=password]")
        field.send_keys("wrong\n")
        assert page.shows("label", "Wrong password.")
        page.one("input[type=password]").send_keys("pass word\n")
        assert page.shows("#link", "Live")
        assert page.driver.current_url == server.url
        assert page.run("return document.cookie") == ""  # no script can read the cookie
        page.open(server.url)
        assert page.shows("#link", "Live")


@pytest.mark.parametrize("size", [(1280, 800), (800, 1280), (390, 844), (320, 568)])
def test_everything_fits_and_can_be_touched(page, size):
    with open_page(page, Run(2), width=size[0], height=size[1]):
        assert page.shows("#answer", "In force")
        assert until(lambda: all(image.is_displayed() for image in page.all(".picture img")), 30)
        assert page.run("return document.documentElement.scrollWidth") <= size[0]
        for control in page.all("button, input"):
            assert control.size["height"] >= 48
            assert control.size["width"] >= 48
        sticking_out = page.run(
            "return [...document.querySelectorAll('main *')].filter((e) => e.checkVisibility() &&"
            " e.scrollWidth > e.clientWidth + 1 && e.clientWidth &&"
            " getComputedStyle(e).textOverflow !== 'ellipsis').map((e) => e.outerHTML)"
        )
        assert sticking_out == []


def test_controls_have_names_and_texts_have_contrast(page):
    with open_page(page, Run()):
        assert page.shows("#classes", "car")
        for control in page.all("button, input"):
            assert control.accessible_name
        assert page.one("#threshold").accessible_name == "Threshold"
        assert page.one(".picture img").accessible_name
        texts = page.run(
            """
            const ground = (e) => {
              const colour = getComputedStyle(e).backgroundColor;
              const clear = colour === "transparent" || colour.includes("rgba");
              return clear && e.parentElement ? ground(e.parentElement) : colour;
            };
            return [...document.querySelectorAll("body *")]
              .filter((e) => e.checkVisibility() && [...e.childNodes].some(
                (n) => n.nodeType === 3 && n.textContent.trim()))
              .map((e) => [e.textContent, getComputedStyle(e).color, ground(e)]);
            """
        )
        assert len(texts) > 20
        for text, ink, ground in texts:
            assert contrast(ink, ground) >= 4.5, (text, ink, ground)


def contrast(ink: str, ground: str) -> float:
    """Return the contrast of two CSS colours, 1 to 21 (WCAG 2)."""
    from squeezedrive.pipeline.drawing import luminance

    def of(colour: str) -> float:
        r, g, b = (round(float(v)) for v in colour.strip("rgb()").split(","))
        return luminance((b, g, r))

    low, high = sorted((of(ink), of(ground)))
    return (high + 0.05) / (low + 0.05)
