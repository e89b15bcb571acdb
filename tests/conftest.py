"""Shared by all tests: one thread, no network, fast or full hypothesis profiles."""

import os
import socket

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
settings.register_profile(
    "fast", max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
settings.register_profile(
    "full", max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
settings.load_profile(os.environ.get("TIMECELL_HYPOTHESIS", "fast"))


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A test that reaches for the network fails."""

    def refuse(self, address, *rest):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            raise AssertionError(f"a test tried to connect to {address}")
        return connect(self, address, *rest)

    connect = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def call(capsys):
    """Run a command of timecell: (exit status, stdout, stderr)."""
    from timecell import cli

    def run(*arguments):
        status = cli.main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return status, out, " ".join(err.split())

    return run
