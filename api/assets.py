"""The dashboard's files: its page, its modules, and the chart library's JavaScript from that library's own package.

Everything but the page is served under the digest of its content, so a browser keeps it for ever and never asks again.
"""

import gzip
from functools import cached_property
from hashlib import sha256
from importlib.metadata import distribution
from pathlib import Path

from api import parquet

FOLDER = Path(__file__).parent / "dashboard"
PAGE = "index.html"
PLOTLY = "plotly.min.js"
DIGEST_CHARS = 16
MEDIA_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
# The chart library writes one style sheet into every page, for maps that are not here; it is known by its digest.
PLOTLY_STYLE = "'sha256-ji27qzEtxXZW+7dun6UwjHXJ18e6WAin1VvNtkzIE/o='"
# No inline script, no style but that one, nothing from elsewhere, and nobody may frame it.
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self' {PLOTLY_STYLE}; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Asset:
    """A file's content, and the same compressed when someone first asks for that."""

    def __init__(self, path: Path) -> None:
        self.content = path.read_bytes()
        self.media_type = MEDIA_TYPES[path.suffix]

    @cached_property
    def compressed(self) -> bytes:
        """By gzip, which every browser takes; once a process."""
        return gzip.compress(self.content, 9, mtime=0)


class Assets:
    """All files by version and name."""

    def __init__(self) -> None:
        own = {path.name: Asset(path) for path in sorted(FOLDER.iterdir()) if path.suffix in MEDIA_TYPES}
        plotly = Asset(Path(str(distribution("plotly").locate_file(f"plotly/package_data/{PLOTLY}"))))
        version = _digest(*(name.encode() + asset.content for name, asset in own.items()))
        plotly_version = _digest(plotly.content)
        self._files = {(version, name): asset for name, asset in own.items()}
        self._files[plotly_version, PLOTLY] = plotly
        told = {
            "{own}": f"/assets/{version}",
            "{plotly}": f"/assets/{plotly_version}",
            "{forms}": "csv parquet" if parquet.installed() else "csv",
        }
        page = (FOLDER / PAGE).read_text("utf-8")
        for name, text in told.items():
            page = page.replace(name, text)
        self.page = page.encode()

    def find(self, version: str, name: str) -> Asset | None:
        """A file of this very content."""
        return self._files.get((version, name))


def _digest(*parts: bytes) -> str:
    return sha256(b"\0".join(parts)).hexdigest()[:DIGEST_CHARS]
