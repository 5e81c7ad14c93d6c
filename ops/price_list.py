"""The price list that is installed: genai-prices, a package with the market's prices, read without the network."""

from functools import cache

from ledger.price_list import PriceListSource
from schema.model_rate import ListedPrice
from schema.price_list import OfferedProvider


@cache
def _installed() -> tuple[ListedPrice, list[OfferedProvider]]:
    # The package takes a second to load; a process that follows no list never needs it.
    from ops.genai_price_list import read  # noqa: PLC0415

    return read(InstalledPriceList.name)


class InstalledPriceList:
    """The prices that came with the installation; they change when it is upgraded."""

    name = "genai-prices"

    def load(self) -> tuple[ListedPrice, list[OfferedProvider]]:
        """The list; read once a process."""
        return _installed()


def installed() -> PriceListSource:
    """The source that the service and the command line follow."""
    return InstalledPriceList()
