"""What all tests share."""

import pytest
import structlog


@pytest.fixture(autouse=True, scope="session")
def plain_log() -> None:
    """Tests break things on purpose: their log is plain, because a pretty traceback costs a second each."""
    structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()])
