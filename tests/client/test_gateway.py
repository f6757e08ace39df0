"""The one client of the gateway: what it sends where, how long it waits, and what it takes for an answer."""

import shutil
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from benchmarks.arms.reserved_ports import free_ports
from client.gateway import Gateway, NotNow
from handlers.report import Report
from tests.client.gateway_stub import KEY, GatewayStub, Say, report_of
from workflows.server import ServerDown, ServerError, WrongToken

FILM = b"0.7"


class Hurried(Gateway):
    """Notes how long it ought to wait, and does not."""

    def __init__(self, address: str) -> None:
        super().__init__(address, KEY)
        self.waits: list[float] = []

    def wait(self, cause: NotNow, seconds: float) -> None:
        self.waits.append(seconds)


def test_a_film_comes_back_as_its_report(service: GatewayStub) -> None:
    assert Gateway(service.address, KEY).read(FILM) == report_of(0.7)
    assert Gateway(f"{service.address}/", KEY).read(FILM) == report_of(0.7)


def test_retry_after_may_be_seconds_or_a_date_and_nonsense_counts_as_nothing_said(service: GatewayStub) -> None:
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(minutes=1), usegmt=True)
    for said, least, most in (("7", 7.0, 10.5), (in_a_minute, 30.0, 90.0), ("soon", 0.5, 0.75), ("-3", 0.5, 0.75)):
        service.script[FILM] = [Say(503, "Busy", said)]
        gateway = Hurried(service.address)
        assert gateway.read(FILM) == report_of(0.7)
        [seconds] = gateway.waits
        assert least <= seconds <= most, said


def test_waits_without_a_word_of_the_service_double_up_to_ten_seconds(service: GatewayStub) -> None:
    service.script[FILM] = [Say(429, "QueueFull")] * 7
    gateway = Hurried(service.address)
    gateway.read(FILM)
    for seconds, least in zip(gateway.waits, (0.5, 1, 2, 4, 8, 10, 10), strict=True):
        assert least <= seconds <= 1.5 * least


def test_an_answer_that_breaks_off_is_asked_for_again(service: GatewayStub) -> None:
    service.script[FILM] = [Say(200), Say(0), Say(408, "UploadTooSlow")]
    gateway = Hurried(service.address)
    assert gateway.read(FILM) == report_of(0.7)
    assert (service.posts[FILM], len(gateway.waits)) == (4, 3)


def test_a_redirection_is_not_followed_with_a_film(service: GatewayStub) -> None:
    elsewhere = GatewayStub()
    try:
        for status in (301, 302, 307, 308):
            service.script[FILM] = [Say(status, "Moved", location=f"{elsewhere.address}/v1/reports")]
            with pytest.raises(ServerError, match=f"answers HTTP {status}, which is not the gateway's way"):
                Gateway(service.address, KEY).read(FILM)
        assert not elsewhere.posts
    finally:
        elsewhere.stop()


def test_no_proxy_that_the_environment_names_sees_a_film(
    service: GatewayStub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (nobody,) = free_ports(1)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{nobody}")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    assert isinstance(Gateway(service.address, KEY).read(FILM), Report)


def test_a_name_and_password_in_the_address_do_not_take_the_key_s_place(service: GatewayStub) -> None:
    address = service.address.replace("http://", "http://someone:else@")
    gateway = Gateway(address, KEY)
    assert isinstance(gateway.read(FILM), Report)
    assert "else" not in gateway.address


@pytest.mark.parametrize("address", ["", "localhost", "localhost:8000", "http://", "http://localhost:none", "ftp://a"])
def test_what_is_no_address_is_said_so(address: str) -> None:
    with pytest.raises(ServerError, match="is no address"):
        Gateway(address, KEY)


@pytest.mark.parametrize("key", ["", "two\nlines", "a blank", "schlüssel", "ключ", "nul\0"])
def test_a_key_that_no_header_can_carry_is_refused_before_anything_is_sent(key: str) -> None:
    with pytest.raises(WrongToken, match="copy it anew") as fault:
        Gateway("http://127.0.0.1:8000", key)
    assert not key or key not in str(fault.value)


def test_what_is_not_up_is_said_in_the_system_s_words() -> None:
    (nobody,) = free_ports(1)
    with pytest.raises(ServerDown, match=rf"nothing answers at http://127.0.0.1:{nobody} \(.*Connection refused\)"):
        Gateway(f"http://127.0.0.1:{nobody}", KEY).require_up()


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_a_certificate_counts_that_this_machine_s_authorities_vouch_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ward -addext subjectAltName=IP:127.0.0.1"
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(["openssl", *words.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    service = GatewayStub(context)
    try:
        with pytest.raises(ServerDown, match="CERTIFICATE_VERIFY_FAILED"):
            Gateway(service.address, KEY).require_up()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert Gateway(service.address, KEY).read(FILM) == report_of(0.7)
    finally:
        service.stop()
