"""One real schema registry for the tests that need it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.schemas.apicurio import running_registry


@pytest.fixture(scope="session")
def registry_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real schema registry; use a topic of your own."""
    with running_registry(tmp_path_factory.mktemp("registry")) as url:
        yield url
