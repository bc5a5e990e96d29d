"""The dashboard's web server: who gets in, what is sent, and what stays out of it."""

import json
from contextlib import asynccontextmanager

import anyio
import pytest
from starlette.testclient import TestClient

from flow_nexus_neural.engine.reports import ClusterList
from flow_nexus_neural.errors import ClusterNotFound, InvalidArguments
from flow_nexus_neural.server.dashboard import web
from flow_nexus_neural.server.dashboard.page import content_policy, page_html
from flow_nexus_neural.server.dashboard.sources import LiveSource, Shown
from flow_nexus_neural.server.dashboard.web import (
    MAX_STREAMS,
    Guard,
    address,
    bound,
    dashboard_app,
    new_token,
)
from flow_nexus_neural.server.host import EngineHost
from tests.doubles.engine_double import CLUSTER, EngineDouble, cluster_line, opened
from tests.doubles.limits import HANG_S

PORT = 8123
TOKEN = new_token()
HOSTILE = "</script><img src=x onerror=alert(1)>\nevent: forged"


class Source:
    """One cluster, or none of that id."""

    async def clusters(self):
        return [{"cluster_id": "dnc_1", "name": HOSTILE, "status": "ready"}]

    async def show(self, cluster_id):
        if cluster_id != "dnc_1":
            raise ClusterNotFound(f"no cluster '{cluster_id}'", hint="look again")
        return Shown({"name": HOSTILE}, [{"round": 1}], "live")

    async def wait(self, timeout_s):
        await anyio.sleep_forever()


@pytest.fixture
def client():
    return TestClient(dashboard_app(Source(), TOKEN, PORT), base_url=f"http://127.0.0.1:{PORT}")


def test_the_page_is_sent_to_those_who_have_its_address(client):
    answer = client.get(f"/{TOKEN}/")
    assert answer.text == page_html("http")
    assert answer.headers["content-security-policy"] == content_policy("http")
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path", ["/", "//", f"/{TOKEN[:-1]}/", f"/{TOKEN}x/", "/events", "/x/events", f"/x/{TOKEN}/"]
)
def test_without_the_token_there_is_nothing(client, path):
    answer = client.get(path)
    assert (answer.status_code, answer.text) == (404, "there is nothing here")


@pytest.mark.parametrize(
    "host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:80", ""]
)
def test_another_host_is_refused_even_with_the_token(client, host):
    """A web page whose name was made to point here (DNS rebinding) sends its own name."""
    assert client.get(f"/{TOKEN}/", headers={"host": host}).status_code == 421


def test_without_the_guard_both_would_get_in(client):
    app = dashboard_app(Source(), TOKEN, PORT)
    assert isinstance(app, Guard)
    open_client = TestClient(app._app, base_url="http://evil.example")
    assert open_client.get(f"/{TOKEN}/").status_code == 200


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_nothing_can_be_changed(client, method):
    assert getattr(client, method)(f"/{TOKEN}/").status_code == 405


async def events(source, asked=None, n=2):
    """The first events of one stream, as a browser reads them."""
    told = web._stream(source, anyio.CapacityLimiter(1), asked)
    found = []
    async for text in told:
        name, data, *rest = text.split("\n")
        assert rest == ["", ""]  # one event each: no text breaks out of its line
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
        if len(found) == n:
            break
    await told.aclose()
    return found


@pytest.mark.anyio
async def test_a_stream_begins_with_the_clusters_and_the_newest_of_them():
    (first, listed), (second, shown) = await events(Source())
    assert (first, second) == ("clusters", "status")
    assert listed["chosen"] == "dnc_1"
    assert shown == {
        "status": {"name": HOSTILE},
        "rounds": [{"round": 1}],
        "seen": "live",
        "recorded_links": None,
    }


@pytest.mark.anyio
async def test_a_cluster_that_is_not_there_is_told_and_does_not_end_the_stream():
    _, (name, told) = await events(Source(), asked="dnc_2")
    assert name == "trouble"
    assert "cluster_not_found" in told["message"]


@pytest.mark.anyio
async def test_only_so_many_pages_are_served_at_one_time():
    taken = anyio.CapacityLimiter(1)
    taken.acquire_on_behalf_of_nowait(object())
    answer = await web._events(Source(), taken, None)
    assert answer.status_code == 503
    assert str(MAX_STREAMS) in answer.body.decode()


def test_a_port_that_is_taken_is_said():
    with bound(0) as listening:
        port = listening.getsockname()[1]
        assert address(listening, "t") == f"http://127.0.0.1:{port}/t/"
        with pytest.raises(InvalidArguments, match=f"port {port}"):
            bound(port)


@asynccontextmanager
async def live(double):
    host = EngineHost(lambda: opened(double))
    source = LiveSource(host)
    async with host.running():
        yield source


@pytest.mark.anyio
async def test_the_engine_of_this_process_is_shown_as_it_is_now():
    double = EngineDouble()
    async with live(double) as source:
        assert [one["cluster_id"] for one in await source.clusters()] == [CLUSTER]
        shown = await source.show(CLUSTER)
        assert shown.seen == "live"
        assert shown.status["cluster_id"] == CLUSTER
        assert len(shown.status["nodes"]) == double.n_nodes
        assert [point["round"] for point in shown.rounds]


@pytest.mark.anyio
async def test_every_cluster_that_has_not_ended_can_be_chosen(monkeypatch):
    line, double = cluster_line(), EngineDouble()
    many = [line.model_copy(update={"cluster_id": f"dnc_{n}"}) for n in range(120)]
    many[7] = many[7].model_copy(update={"status": "terminated"})

    async def clusters(request=None):
        limit = len(many) if request is None else request.limit
        return ClusterList(clusters=many[-limit:], live=119, ended=1, warnings=[])

    monkeypatch.setattr(double, "clusters", clusters)
    async with live(double) as source:
        shown = [one["cluster_id"] for one in await source.clusters()]
    assert shown == [one.cluster_id for one in many if one.status != "terminated"]


@pytest.mark.anyio
async def test_a_change_of_the_engine_ends_the_wait_at_once():
    double = EngineDouble()
    async with live(double) as source, anyio.create_task_group() as tasks:
        await source.clusters()
        waited = anyio.Event()

        async def wait():
            await source.wait(HANG_S)
            waited.set()

        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert not waited.is_set()
        double.listeners[0](CLUSTER)
        await waited.wait()
