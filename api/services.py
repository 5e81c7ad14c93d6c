"""What the routes of one process share, made when the application starts."""

from collections.abc import Callable, Mapping

from litestar import Litestar

from api.assets import Assets
from api.delivering import Deliverer
from api.known_keys import KnownKeys
from api.outbound import Outbound
from api.payment_scheme import PaymentScheme
from api.reporting import Reporter
from api.rerater import Rerater
from api.session import Sessions
from api.settings import ApiSettings
from api.state_hashes import StateHashes
from api.tail import Tail
from api.vendor import CredentialProbe, Vendors
from ledger.estimate import Estimator
from ledger.ledger import Ledger
from ledger.price_list import PriceListSource

SERVICES = "services"


class Services:
    """The open ledger and what serves it."""

    def __init__(  # noqa: PLR0913 - what one process is put together from
        self,
        ledger: Ledger,
        settings: ApiSettings,
        clock: Callable[[], int],
        price_list: PriceListSource | None = None,
        *,
        session_secret: bytes | None = None,
        probe: CredentialProbe | None = None,
        payment_schemes: Mapping[str, PaymentScheme] | None = None,
        outbound: Outbound | None = None,
    ) -> None:
        self.ledger = ledger
        self.settings = settings
        self.clock = clock
        self.keys = KnownKeys(ledger.path)
        self.sessions = Sessions(session_secret, settings.session_lifetime_us, clock, self.keys.find)
        self.assets = Assets()
        self.exports = 0  # that are on their way
        self.rerater = Rerater(ledger, clock, settings.rating_policy)
        self.payment_schemes = payment_schemes or {}
        self.tail = Tail(ledger.readers, settings)
        self.price_list = price_list
        # When each provider's prices were last looked at by this process, whether or not that changed any.
        self.prices_tried_us: dict[str, int] = {}
        self.vendors = Vendors(probe, clock)
        # When each provider's own list of models is due, as this process knows.
        self.models_due_us: dict[str, int] = {}
        self.estimator = Estimator()
        self.state_hashes = StateHashes(ledger.readers)
        self.outbound = outbound
        self.deliverer = (
            None if outbound is None else Deliverer(ledger, settings, clock, outbound.poster, outbound.jitter_ppm)
        )
        self.reporter = (
            None
            if outbound is None or outbound.payment is None
            else Reporter(ledger, settings, clock, outbound.payment, outbound.jitter_ppm)
        )


def services_of(app: Litestar) -> Services:
    """The services of a running application."""
    services: Services = app.state[SERVICES]
    return services
