"""`usage-ledger`: every command is a module of `ops/commands`."""

import importlib
import pkgutil
from typing import Any

import apsw
import click

import ops.commands
from ops.terminal import note
from schema.errors import LedgerError


class Commands(click.Group):
    """The commands, loaded when asked for; what goes wrong becomes one clear line and exit code 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(_modules())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - likewise
        name = _modules().get(cmd_name)
        if name is None:
            return None
        module: Any = importlib.import_module(f"ops.commands.{name}")
        command: click.Command = module.COMMAND
        return command

    def invoke(self, ctx: click.Context) -> None:
        try:
            super().invoke(ctx)
        except LedgerError as error:
            note(explained(error))
            ctx.exit(1)
        except (apsw.Error, OSError) as error:
            note(f"error: {type(error).__name__}: {error}")
            ctx.exit(1)


def _modules() -> dict[str, str]:
    """Each command's module; one that would be a word of the language ends in an underscore, and a dash is one."""
    names = [module.name for module in pkgutil.iter_modules(ops.commands.__path__)]
    return {name.removesuffix("_").replace("_", "-"): name for name in names}


def explained(error: LedgerError) -> str:
    """An error as one line: what, its code, and what helps."""
    return f"error: {error.detail} [{error.code}] {error.hint}"


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="usage-ledger")
def main() -> None:
    """Keep a ledger of model calls, one file that proves what was used."""


if __name__ == "__main__":
    main()
