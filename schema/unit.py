"""What a call can use and a price can be for: units by the dimensions that their names spell out.

The names are those of the price list (genai-prices, `units.py`), with two of the ledger's own: `images` and `seconds`.
A unit whose dimensions are part of another's includes it: `input_tokens` includes `cache_read_tokens`, which includes
`cache_audio_read_tokens`. A quantity is counted once, in the most specific unit that has a price.
"""

from functools import cache

REQUESTS = "requests"
_WORDS = {
    "input": ("direction", "input"), "output": ("direction", "output"),
    "text": ("modality", "text"), "audio": ("modality", "audio"), "image": ("modality", "image"),
    "video": ("modality", "video"),
    "read": ("token_type", "cache_read"), "write": ("token_type", "cache_write"), "tool": ("token_type", "tool"),
    "reasoning": ("token_type", "reasoning"), "citation": ("token_type", "citation"),
    "5m": ("cache_ttl", "5m"), "1h": ("cache_ttl", "1h"),
    "annotated": ("page_type", "annotated"),
    "cache": ("direction", "input"),
}  # fmt: skip
# What has no words of its own, or words that mean something else here.
_PLAIN: dict[str, tuple[str, dict[str, str]]] = {
    "input_characters": ("characters", {"direction": "input"}),
    "input_text_messages": ("messages", {"direction": "input", "modality": "text"}),
    "input_pixels": ("pixels", {"direction": "input"}),
    "input_document_pages": ("document_pages", {"direction": "input"}),
    "input_annotated_document_pages": ("document_pages", {"direction": "input", "page_type": "annotated"}),
    "rerank_searches": ("rerank", {}),
    "web_searches": ("tool_calls", {"tool_type": "web_search"}),
    "social_searches": ("tool_calls", {"tool_type": "social_search"}),
    "storage_searches": ("tool_calls", {"tool_type": "storage_search"}),
    "code_executions": ("tool_calls", {"tool_type": "code_execution"}),
    REQUESTS: ("requests", {}),
    "images": ("images", {}),
    "seconds": ("durations", {}),
}
_MODALITIES = ("text", "audio", "image", "video")
_OF = ("", *(f"{modality}_" for modality in _MODALITIES))
_TOKENS = (
    "input", "output", *(f"{way}_{m}" for way in ("input", "output") for m in _MODALITIES),
    *(f"cache_{m}{kind}" for m in _OF for kind in ("read", "write", "write_5m", "write_1h")),
    *(f"input_{m}tool" for m in _OF),
    *(f"output_{m}{kind}" for m in _OF for kind in ("reasoning", "citation")),
)  # fmt: skip
_SECONDS = ("audio", "input_audio", "output_audio")

Dimensions = dict[str, str]


def _spelt(family: str, name: str) -> Dimensions:
    return {"family": family, **dict(_WORDS[word] for word in name.split("_"))}


UNITS: dict[str, Dimensions] = {
    **{f"{name}_tokens": _spelt("tokens", name) for name in _TOKENS},
    **{f"{name}_seconds": _spelt("durations", name) for name in _SECONDS},
    **{name: {"family": family, **dimensions} for name, (family, dimensions) in _PLAIN.items()},
}


def is_duration(unit: str) -> bool:
    """Whether a unit is measured in seconds, which have six decimals; all others are counted."""
    return UNITS[unit]["family"] == "durations"


def is_input(unit: str) -> bool:
    """Whether a unit's cost is input cost; all else counts as output."""
    return UNITS[unit].get("direction") == "input"


@cache
def includes(whole: str, part: str) -> bool:
    """Whether `part` is the same unit as `whole` or a subset of it."""
    return UNITS[whole].items() <= UNITS[part].items()


@cache
def join(first: str, second: str) -> frozenset[tuple[str, str]] | None:
    """The dimensions of what belongs to both of two units, None where nothing can or one includes the other."""
    a, b = UNITS[first], UNITS[second]
    if includes(first, second) or includes(second, first) or any(b.get(k, v) != v for k, v in a.items()):
        return None
    return frozenset({**a, **b}.items())
