"""Builders of catalogue commands, and histories of them that repeat, conflict and race."""

from random import Random
from typing import Any

import msgspec

from ledger.decision import Command
from schema.model import ChangeModel, CreateModel, DeleteModel, ModelChange, ModelCreated
from schema.provider import ChangeProvider, CreateProvider, DeleteProvider, ProviderChange, ProviderCreated
from tests.histories import ACTOR, NOON_US, SECOND_US, call

Fields = dict[str, Any]


def a_provider(id_: str = "openai", **fields: object) -> Fields:
    """A provider as posted; keyword arguments replace fields."""
    return {
        "id": id_, "name": id_, "display_name": "A vendor", "type": "openai", "base_url": "https://api.example.com/v1",
        "enabled": True, **fields,
    }  # fmt: skip


def a_model(id_: str = "gpt-4o", **fields: object) -> Fields:
    """A model as posted; keyword arguments replace fields."""
    return {
        "id": id_, "provider": "openai", "model": id_, "display_name": "A model", "group": "GPT", "category": "chat",
        "capabilities": ["stream", "vision"], "context_window": 128_000, **fields,
    }  # fmt: skip


def create_provider(id_: str = "openai", *, at_us: int = NOON_US, **fields: object) -> CreateProvider:
    return CreateProvider(ACTOR, at_us, msgspec.convert(a_provider(id_, **fields), ProviderCreated))


def change_provider(
    id_: str = "openai", *, at_us: int = NOON_US, position: int | None = None, **fields: object
) -> ChangeProvider:
    return ChangeProvider(ACTOR, at_us, id_, position, msgspec.convert(fields, ProviderChange))


def delete_provider(id_: str = "openai", *, at_us: int = NOON_US, position: int | None = None) -> DeleteProvider:
    return DeleteProvider(ACTOR, at_us, id_, position, "left")


def create_model(id_: str = "gpt-4o", *, at_us: int = NOON_US, **fields: object) -> CreateModel:
    return CreateModel(ACTOR, at_us, msgspec.convert(a_model(id_, **fields), ModelCreated))


def change_model(
    id_: str = "gpt-4o", *, at_us: int = NOON_US, position: int | None = None, **fields: object
) -> ChangeModel:
    return ChangeModel(ACTOR, at_us, id_, position, msgspec.convert(fields, ModelChange))


def delete_model(id_: str = "gpt-4o", *, at_us: int = NOON_US, position: int | None = None) -> DeleteModel:
    return DeleteModel(ACTOR, at_us, id_, position)


def random_catalogue(seed: int, size: int) -> list[Command]:
    """Commands of every kind over few ids and names, with calls between them; the seed is all."""
    dice = Random(seed)
    return [_random_command(dice, NOON_US + n * SECOND_US) for n in range(size)]


def _random_command(dice: Random, at_us: int) -> Command:
    provider, model = dice.choice("pqrs"), dice.choice("abcdef")
    position = dice.choice((None, None, dice.randrange(1, 60)))
    match dice.randrange(20):
        case 0 | 1 | 2:
            return create_provider(provider, at_us=at_us, name=dice.choice("ABCD"))
        case 3 | 4 | 5:
            fields = {"name": dice.choice("ABCD"), "sort": dice.randrange(3), "config": {"n": dice.randrange(2)}}
            return change_provider(provider, at_us=at_us, position=position, **fields)
        case 6:
            return delete_provider(provider, at_us=at_us, position=position)
        case 7 | 8 | 9 | 10 | 11:
            return create_model(model, at_us=at_us, provider=provider, model=dice.choice("xyz"))
        case 12 | 13 | 14 | 15:
            fields = {"group": dice.choice((None, "G")), "active": dice.random() < 0.5, "metadata": {"f": 1.0}}
            return change_model(model, at_us=at_us, position=position, **fields)
        case 16:
            return delete_model(model, at_us=at_us, position=position)
        case _:
            return call(f"c-{dice.randrange(10)}", at_us=at_us, provider=provider, model=model)
