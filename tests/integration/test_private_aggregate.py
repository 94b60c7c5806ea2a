"""The example that asks a chat model: the official clients, and a server that speaks their wire formats."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "private_aggregate.py"
KEY = "key-of-the-test"
slow = pytest.mark.slow
ANSWER = "Large tumours are mostly malignant; the noise moves each count by a few patients."


class ChatServer(ThreadingHTTPServer):
    """Answers what https://api.openai.com/v1/chat/completions and https://api.anthropic.com/v1/messages do.

    Attributes:
        asked: the path and the body of each request that was in order.
        refused: why, for those that were not.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.refused: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        wrong = list(_wrong(self.path, self.headers, body))
        if wrong:
            self.server.refused += wrong
            key = any("key" in one for one in wrong)
            return self._reply(401 if key else 400, _error(self.path, "; ".join(wrong)))
        self.server.asked.append((self.path, body))
        return self._reply(200, _answer(self.path, body))

    def _reply(self, status: int, message: dict[str, Any]) -> None:
        encoded = json.dumps(message).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, *_: object) -> None:
        pass


def _wrong(path: str, headers: Any, body: dict[str, Any]) -> Iterator[str]:
    if path == "/v1/chat/completions":
        if headers.get("Authorization") != f"Bearer {KEY}":
            yield "no valid key in Authorization"
    elif path == "/v1/messages":
        # Clients before version 2 send the first of these, later ones the second.
        if headers.get("x-api-key") != KEY and headers.get("Authorization") != f"Bearer {KEY}":
            yield "no valid key"
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", headers.get("anthropic-version", "")):
            yield "anthropic-version: required"
        if not (isinstance(body.get("max_tokens"), int) and body["max_tokens"] > 0):
            yield "max_tokens: required"
    else:
        yield f"{path}: not found"
    if headers.get("Content-Type") != "application/json":
        yield "Content-Type: not JSON"
    if not (isinstance(body.get("model"), str) and body["model"]):
        yield "model: required"
    if body.get("stream"):
        yield "stream: not spoken here"
    messages = body.get("messages")
    if not (isinstance(messages, list) and messages):
        yield "messages: required"
        return
    for message in messages:
        if message.get("role") not in {"user", "assistant"} or not isinstance(message.get("content"), str):
            yield "messages: a role and a text each"


def _answer(path: str, body: dict[str, Any]) -> dict[str, Any]:
    if path == "/v1/messages":
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [{"type": "text", "text": ANSWER}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 200, "output_tokens": 20},
        }
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": ANSWER, "refusal": None},
        "finish_reason": "stop",
        "logprobs": None,
    }
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": body["model"],
        "choices": [choice],
        "usage": {"prompt_tokens": 200, "completion_tokens": 20, "total_tokens": 220},
    }


def _error(path: str, message: str) -> dict[str, Any]:
    if path == "/v1/messages":
        return {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    return {"error": {"type": "invalid_request_error", "message": message, "param": None, "code": None}}


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer() as standing:
        thread = threading.Thread(target=standing.serve_forever, daemon=True)
        thread.start()
        yield standing
        standing.shutdown()
        thread.join()


def start(*arguments: str, key: str = KEY) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if "proxy" not in name.lower() and not name.startswith(("OPENAI_", "ANTHROPIC_"))
    }
    environment |= {"OPENAI_API_KEY": key, "ANTHROPIC_API_KEY": key, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", str(EXAMPLE), *arguments],
        capture_output=True,
        text=True,
        timeout=110,
        env=environment,
    )


def sent(output: str) -> str:
    found = re.search(r"--- sent, ε = 1 ---\n(.*)\n---\n", output, re.DOTALL)
    assert found, output
    return found[1]


@pytest.mark.parametrize(
    ("provider", "base", "path"),
    [
        ("openai", "/v1", "/v1/chat/completions"),
        pytest.param("anthropic", "", "/v1/messages", marks=pytest.mark.slow),
    ],
)
def test_the_model_gets_the_noisy_figures_and_nothing_else(
    server: ChatServer, provider: str, base: str, path: str
) -> None:
    done = start(provider, "--model", "a-model", "--base-url", server.url + base)
    assert done.returncode == 0, done.stdout + done.stderr
    assert server.refused == []
    assert ANSWER in done.stdout

    [(asked, body)] = server.asked
    assert (asked, body["model"]) == (path, "a-model")
    assert body["messages"] == [{"role": "user", "content": sent(done.stdout)}]
    assert set(body) <= {"model", "messages", "max_tokens"}
    # 4 counts with their intervals, 2 means: no row, and no name of a column.
    text = body["messages"][0]["content"]
    assert len(re.findall(r"about -?\d+ patients", text)) == 4
    assert len(re.findall(r"mean radius about -?\d+\.\d mm", text)) == 2
    assert not re.search(r"\d\.\d\d", text)  # the table has two digits after the point at least


@slow
def test_the_noise_is_fresh_each_time() -> None:
    first, second = start(), start()
    assert first.returncode == second.returncode == 0, first.stderr
    assert sent(first.stdout) != sent(second.stdout)


@slow
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_wrong_key_is_refused_by_the_server(server: ChatServer, provider: str) -> None:
    base = server.url + ("/v1" if provider == "openai" else "")
    done = start(provider, "--model", "a-model", "--base-url", base, key="another")
    assert done.returncode != 0
    assert "AuthenticationError" in done.stderr
    assert server.asked == []


@slow
def test_a_model_must_be_named(server: ChatServer) -> None:
    done = start("openai", "--base-url", server.url)
    assert done.returncode == 2
    assert "--model" in done.stderr
    assert server.asked == server.refused == []
