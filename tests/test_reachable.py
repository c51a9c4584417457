"""Whether a server answers: known within the limit, whatever hangs."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import huggingface_hub
import pytest

from fathom import reachable as module
from fathom.encoders.hub.repository import find_folder
from fathom.errors import CheckpointError, FathomError
from fathom.models.hub import from_pretrained
from fathom.reachable import reachable


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "getproxies", dict)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that drops every packet: connecting ends late and without a connection."""

    def hang(*_: object, **__: object) -> None:
        threading.Event().wait(3)
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", hang)
    monkeypatch.setattr(module, "SECONDS", 0.2)


def test_a_server_that_listens_is_reachable_and_a_closed_port_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert reachable(f"http://127.0.0.1:{port}/x")
    assert not reachable(f"http://127.0.0.1:{port}/x")


@pytest.mark.usefixtures("silent")
def test_a_silent_network_is_given_up_in_time() -> None:
    start = time.monotonic()
    assert not reachable("https://huggingface.co")
    assert time.monotonic() - start < 10  # the client of the hub would try again for 23 seconds or more


def test_a_proxy_decides_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "getproxies", lambda: {"https": "http://127.0.0.1:1"})
    assert reachable("https://huggingface.co.invalid")


@pytest.mark.usefixtures("silent")
def test_a_hub_name_without_network_fails_fast_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    start = time.monotonic()
    with pytest.raises(FathomError, match="nor in the local cache, and the hub cannot be reached"):
        find_folder("hf", "org/name")
    with pytest.raises(CheckpointError, match="check the name and the network"):
        from_pretrained("org/name")
    assert time.monotonic() - start < 10  # the client of the hub would try again for 23 seconds or more
