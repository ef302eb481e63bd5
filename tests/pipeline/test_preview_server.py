"""The live page over HTTP: its answers, its access rules and the requests it refuses."""

import json
import logging

import pytest
from prometheus_client.parser import text_string_to_metric_families

from squeezedrive.pipeline.preview.status import RECENT, STATES
from tests.support.preview import Run, decode, post, request, result, source_status


@pytest.fixture
def run():
    return Run()


@pytest.fixture
def url(run):
    with run.server() as server:
        yield server.url


@pytest.fixture
def guarded(run):
    with run.server(token="se cret+ü/&") as server:
        yield server.url


@pytest.mark.parametrize(
    ("path", "kind", "begin"),
    [
        ("/", "text/html", b"<!doctype html>"),
        ("/page.js", "text/javascript", b"//"),
        ("/page.css", "text/css", b"/*"),
        ("/icon.svg", "image/svg+xml", b"<svg"),
    ],
)
def test_the_server_delivers_its_files(url, path, kind, begin):
    status, headers, body = request(url, path)
    assert status == 200
    assert headers["content-type"].startswith(kind)
    assert body.startswith(begin)
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"


def test_the_page_needs_nothing_from_elsewhere(url):
    page = request(url, "/")[2] + request(url, "/page.js")[2] + request(url, "/page.css")[2]
    assert b"http:" not in page
    assert b"https:" not in page
    assert b"style=" not in page  # the content security policy forbids inline styles


@pytest.mark.parametrize("path", ["/nothing", "/page.py", "/../server.py", "/pictures", "/%00"])
def test_unknown_paths_are_not_found(url, path):
    assert request(url, path)[0] == 404


def test_head_is_get_without_the_body(url):
    status, headers, body = request(url, "/", "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 1000


def test_pictures_are_jpeg(run, url):
    run.sinks[0].write(result(200))
    status, headers, body = request(url, "/pictures/0")
    assert status == 200
    assert headers["content-type"] == "image/jpeg"
    assert headers["x-picture"] == "1"
    assert abs(int(decode(body).mean()) - 200) <= 1


def test_no_new_picture_gives_no_content(run, url):
    run.sinks[0].write(result())
    assert request(url, "/pictures/0?last=1")[0] == 204
    # After a restart, the program numbers its pictures from the beginning.
    assert request(url, "/pictures/0?last=999")[0] == 200


@pytest.mark.parametrize("source", ["1", "-1", "", "x", "0/0", "%30", "9" * 30])
def test_pictures_of_unknown_sources_are_not_found(url, source):
    status, _, text = request(url, f"/pictures/{source}")
    assert status == 404
    assert b"expected a source from 0 to 0" in text


def test_each_source_has_its_own_pictures():
    run = Run(3)
    with run.server() as server:
        for value, sink in zip((10, 100, 200), run.sinks, strict=True):
            sink.write(result(value))
        means = [decode(request(server.url, f"/pictures/{i}")[2]).mean() for i in range(3)]
    assert [round(mean, -1) for mean in means] == [10, 100, 200]


def test_status_is_json(run, url):
    status, headers, body = request(url, "/status")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body) == {
        "uptime_s": 3600.0,
        "model": "squeezedrive-v3",
        "backend": "cpu int8",
        "sources": run.sources,
        "threshold": 0.4,
        "classes": ["car", "pedestrian", "cyclist"],
        "known_classes": [
            {"name": "car", "colour": "#35c4ff"},
            {"name": "pedestrian", "colour": "#ff4f79"},
            {"name": "cyclist", "colour": "#ffd60a"},
        ],
    }


def test_many_status_requests_share_one_query(run, url, monkeypatch):
    monkeypatch.setattr("squeezedrive.pipeline.preview.view.STATUS_SECONDS", 1e9)
    for _ in range(20):
        request(url, "/status")
        request(url, "/health")
        request(url, "/metrics")
    assert run.asked == 1


def test_a_fault_in_the_status_is_reported_once_and_the_rest_works(run, caplog):
    run.status = lambda: 1 / 0
    with run.server() as server:
        for _ in range(3):
            with pytest.raises(OSError):  # noqa: PT011  closed without an answer
                request(server.url, "/status")
        assert request(server.url, "/")[0] == 200
    reports = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.getMessage() for record in reports] == ["preview: a request failed"]


# Controls


def test_controls_change_threshold_and_classes(run, url):
    every = ["car", "pedestrian", "cyclist"]
    assert post(url, {"threshold": 0.25}) == (200, {"threshold": 0.25, "classes": every})
    assert post(url, {"classes": ["car"]}) == (200, {"threshold": 0.25, "classes": ["car"]})
    assert post(url, {"threshold": 1, "classes": []}) == (200, {"threshold": 1, "classes": []})
    assert (run.controls.threshold, run.controls.classes) == (1, [])
    assert json.loads(request(url, "/status")[2])["threshold"] == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "expected JSON"),
        (b"threshold=0.5", "expected JSON"),
        (b"\xff", "expected JSON"),
        (b"[" * 4000, "expected JSON"),
        ({}, 'expected {"threshold": 0 to 1, "classes": [names]}, or one of them'),
        ([0.5], 'expected {"threshold": 0 to 1, "classes": [names]}, or one of them'),
        ({"treshold": 0.5}, "unknown treshold, expected threshold and classes"),
        ({"threshold": 1.5}, "threshold: expected 0 to 1, got 1.5"),
        (b'{"threshold": NaN}', "threshold: expected 0 to 1, got nan"),
        ({"threshold": True}, "threshold: expected a number from 0 to 1, got True"),
        ({"threshold": "0.5"}, "threshold: expected a number from 0 to 1, got '0.5'"),
        ({"threshold": None}, "threshold: expected a number from 0 to 1, got None"),
        ({"classes": "car"}, "classes: expected a list of names, got 'car'"),
        ({"classes": [1]}, "classes: expected a list of names, got [1]"),
        (
            {"threshold": 0.9, "classes": ["tram"]},
            "classes: unknown tram; there are car, pedestrian, cyclist",
        ),
    ],
)
def test_invalid_controls_are_refused(run, url, body, message):
    assert post(url, body) == (400, message)
    assert run.controls.threshold == 0.4


def test_controls_need_a_small_content_length(url):
    headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    assert request(url, "/controls", "POST", b"2\r\n{}\r\n0\r\n\r\n", headers)[0] == 411
    assert post(url, b" " * 5000) == (413, "expected at most 4096 bytes")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_forms_on_other_sites_are_refused(run, url, kind):
    assert post(url, {"threshold": 0.9}, {"Content-Type": kind})[0] == 415
    assert run.controls.threshold == 0.4


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_scripts_on_other_sites_are_refused(run, url, headers):
    assert post(url, {"threshold": 0.9}, headers) == (
        403,
        "another site may not change the controls",
    )
    assert run.controls.threshold == 0.4


def test_the_page_itself_may_change_controls(url):
    own = {"Origin": url.rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert post(url, {"threshold": 0.9}, own)[0] == 200


def test_other_methods_are_refused(url):
    assert request(url, "/status", "POST", b"{}")[0] == 404
    assert request(url, "/controls", "PUT", b"{}")[0] == 501


# Access


@pytest.mark.parametrize("host", ["localhost", "localhost:9999", "127.0.0.1:80", "[::1]:8080"])
def test_host_names_of_this_machine_are_accepted(url, host):
    assert request(url, "/status", headers={"Host": host})[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8080", "192.0.2.1", "", "[", "a@b", "evil@localhost",
        "localhost/.evil.example", "localhost.evil.example", "2130706433",
    ],
)  # fmt: skip
def test_foreign_host_names_are_refused(url, host):
    status, _, text = request(url, "/status", headers={"Host": host})
    assert status == 421
    assert b"open it as http://localhost:PORT/" in text


def test_with_a_password_any_host_name_is_accepted(run):
    with run.server("0.0.0.0:0", "secret") as server:
        headers = {"Host": "tablet.example", "Authorization": "Bearer secret"}
        assert request(server.url, "/status", headers=headers)[0] == 200


PATHS = ["/", "/page.js", "/status", "/health", "/metrics", "/pictures/0", "/nothing"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer secret"},
        {"Authorization": "Basic se cret+ü/&".encode().decode("latin-1")},
        {"Authorization": "Bearer"},
        {"Cookie": "squeezedrive=; a; =; squeezedrive_80=b"},
    ],
)
def test_every_path_needs_the_password(guarded, path, headers):
    status, answer, body = request(guarded, path, headers=headers)
    assert status == 401
    assert answer["www-authenticate"] == "Bearer"
    assert b"se cret" not in body


def test_controls_need_the_password(run, guarded):
    assert post(guarded, {"threshold": 0.9})[0] == 401
    assert run.controls.threshold == 0.4


def test_password_in_the_header(guarded):
    headers = {"Authorization": "Bearer se cret+ü/&".encode().decode("latin-1")}
    assert request(guarded, "/status", headers=headers)[0] == 200
    assert post(guarded, {"threshold": 0.9}, headers)[0] == 200


TOKEN = "token=se%20cret%2B%C3%BC%2F%26"


def test_password_in_the_address_leaves_a_cookie_and_the_address(guarded):
    status, headers, body = request(guarded, f"/?{TOKEN}")
    assert (status, headers["location"], body) == (303, "/", b"")
    cookie, *attributes = headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(attributes)
    assert "cret" not in cookie
    assert request(guarded, "/status", headers={"Cookie": f"a=b; {cookie}; c"})[0] == 200
    again = {"Cookie": cookie}
    assert request(guarded, f"/?{TOKEN}", headers=again)[1]["location"] == "/"


def test_the_cookie_is_valid_after_a_restart(run):
    def cookie(port, token):
        with run.server(port, token) as server:
            number = int(server.url.rstrip("/").rpartition(":")[2])
            answer = request(server.url, f"/?token={token}")[1]
        return number, answer["set-cookie"]

    port, first = cookie(0, "secret")
    assert cookie(port, "secret")[1] == first
    assert cookie(port, "other")[1] != first


@pytest.mark.parametrize("begin", ["////", "/\\", "/\\/", "\\\\"])
def test_the_redirect_stays_on_this_site(guarded, begin):
    """Browsers read // and /\\ as the beginning of another host's name."""
    headers = request(guarded, f"{begin}evil.example/?{TOKEN}")[1]
    assert headers["location"] == "/evil.example/"


def test_reports_a_wrong_password(guarded):
    status, _, page = request(guarded, "/?token=wrong")
    assert status == 401
    assert b"Wrong password." in page
    assert b'type="password"' in page
    assert b"{said}" not in page


def test_files_of_the_password_page_need_no_password(guarded):
    assert request(guarded, "/page.css")[0] == request(guarded, "/icon.svg")[0] == 200


def test_the_password_is_never_logged(guarded, caplog, capfd):
    caplog.set_level("DEBUG")
    request(guarded, f"/?{TOKEN}")
    request(guarded, "/?token=secret")
    assert not caplog.text
    assert capfd.readouterr() == ("", "")


# Health


def test_health_is_200_while_frames_arrive(url):
    status, _, body = request(url, "/health")
    assert status == 200
    assert json.loads(body) == {
        "healthy": True,
        "sources": [{"id": 0, "name": "rtsp://***@camera0/", "healthy": True, "reason": ""}],
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"age_ms": RECENT * 1e3 + 3000, "state": "stalled"}, "stalled, no frame for 8 s"),
        ({"age_ms": 90e3, "state": "reconnecting"}, "reconnecting, no frame for 90 s"),
        ({"age_ms": None, "state": "connecting"}, "connecting, no frame yet"),
        ({"age_ms": 100.0, "state": "given up"}, "given up"),
    ],
)
def test_health_is_503_with_the_reasons(changes, reason):
    run = Run(2)
    run.sources[1] = source_status(1, **changes)
    with run.server() as server:
        status, _, body = request(server.url, "/health")
    assert status == 503
    found = json.loads(body)
    assert not found["healthy"]
    assert [source["healthy"] for source in found["sources"]] == [True, False]
    assert found["sources"][1]["reason"] == reason


@pytest.mark.parametrize(
    "changes", [{"age_ms": 90e3, "state": "ended"}, {"age_ms": 2000.0, "state": "stalled"}]
)
def test_health_stays_200_in_harmless_states(run, url, changes):
    run.sources[0] = source_status(0, **changes)
    assert request(url, "/health")[0] == 200


# Metrics


def test_metrics_are_in_the_format_of_prometheus():
    run = Run(2)
    run.sources[1] = source_status(
        1, name='a "b"\n\\', state="connecting", age_ms=None, processed=0
    )
    with run.server() as server:
        status, headers, body = request(server.url, "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=")
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }

    def of(metric, /, **labels):
        return samples.get((f"squeezedrive_{metric}", *sorted(labels.items())))

    assert of("info", model="squeezedrive-v3", backend="cpu int8") == 1
    assert of("source_info", source="1", name='a "b"\n\\') == 1
    assert of("uptime_seconds") == 3600
    assert of("threshold") == 0.4
    assert of("frames_read_total", source="0") == 1000
    assert of("frames_total", source="0") == 490
    assert of("frames_dropped_total", source="0", reason="too old") == 10
    assert of("detections_total", source="0", **{"class": "pedestrian"}) == 56
    assert of("reconnects_total", source="0") == 2
    assert of("latency_seconds", source="0", quantile="0.95") == pytest.approx(0.084)
    assert of("latency_seconds", source="1", quantile="0.95") is None
    assert of("frame_age_seconds", source="0") == pytest.approx(0.07)
    assert of("frame_age_seconds", source="1") is None
    assert [of("source_state", source="1", state=state) for state in STATES] == [1, 0, 0, 0, 0, 0]
