"""Every entry of every endpoint, private ones too, given what no visitor writes: a line comes back, soon."""

import itertools
import json
import time

import httpx
import pytest

from kdgen.ui.sessions import COOKIE

HOSTILE = [
    1e308, -1e308, 10**30, -1, float("nan"), float("inf"), True, "", "x" * 100_000, "x" * 1_000_000, "\0", "../../etc/passwd",
    "run:0123456789ab", "hub:../../x", [], {}, [None], ["x" * 1000] * 1000, [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]],
    {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, {"path": "http://127.0.0.1:1/x"}, {"a": ["b"] * 10_000},
    None,
]  # fmt: skip
HTTP = httpx.Client(timeout=120)
SECONDS = 60.0
FEW = 8
"""Fields of an endpoint that are walked through with every value; where there are more, two values each."""


@pytest.fixture(scope="module")
def config(server):
    return httpx.get(f"{server.url}/config", timeout=60).json()


def answered(server, session, dependency, data):
    """The status and the line that an endpoint answers with, and how long it took."""
    body = json.dumps({"data": data, "fn_index": dependency["id"], "session_hash": "walk"})
    begun = time.monotonic()
    answer = HTTP.post(f"{server.url}/gradio_api/run/predict", content=body,
                       headers={"content-type": "application/json", "cookie": f"{COOKIE}={session}"})  # fmt: skip
    return answer, time.monotonic() - begun


def usual(config, dependency):
    """The values that the fields of an endpoint have at first."""
    by_id = {component["id"]: component["props"].get("value") for component in config["components"]}
    return [by_id.get(each) for each in dependency["inputs"]]


@pytest.mark.parametrize("values", [6, pytest.param(len(HOSTILE), marks=pytest.mark.slow)])
def test_every_entry_answers_with_a_line(server, config, session, values):
    """Each value in turn, so that of few values for each field every one is given somewhere."""
    found, hostile = {}, itertools.cycle(HOSTILE)
    different = {
        (*each["inputs"], None, *each["outputs"]): each for each in config["dependencies"] if each["backend_fn"]
    }
    for dependency in different.values():
        name = dependency["api_name"]
        given = usual(config, dependency)
        for index in range(len(given)):
            for value in itertools.islice(hostile, values if len(given) <= FEW else 2):
                data = [*given[:index], value, *given[index + 1 :]]
                answer, seconds = answered(server, session, dependency, data)
                if answer.status_code == 500 or seconds > SECONDS:
                    found[name, index, str(value)[:30]] = answer.status_code, round(seconds, 1), answer.text[:200]
        for data in ([], given * 3 + [1], [None] * len(given)):
            answer, seconds = answered(server, session, dependency, data)
            if answer.status_code == 500:
                found[name, "count", len(data)] = answer.status_code, answer.text[:200]
    assert found == {}


def test_a_body_is_bounded(server):
    url = f"{server.url}/gradio_api/run/predict"
    assert httpx.post(url, content=b"x" * 5_000_000).status_code == 413
    assert httpx.post(url, content=(b"x" * 10**6 for _ in range(5))).status_code == 413
    deep = b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert httpx.post(url, content=deep, headers={"content-type": "application/json"}).status_code in (400, 422)
    assert httpx.post(f"{server.url}/gradio_api/queue/join", content=b"x" * 5_000_000).status_code == 413
