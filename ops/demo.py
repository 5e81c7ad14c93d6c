"""The demonstration: a ledger of its own with two days of sample calls, the service, and calls that keep arriving."""

import threading
from collections.abc import Callable
from random import Random

import httpx
from msgspec import Struct

from ledger.ledger import Ledger
from ledger.price_list import command, followers, selected
from ops import keys, master_key, sign_in
from ops.bootstrap import clock_us, opened
from ops.call_import import client, import_calls, into_ledger
from ops.initialise import add_key
from ops.keys import NewKey
from ops.price_list import installed
from ops.sample_traffic import Traffic
from ops.serve import serve, url
from ops.settings import Settings
from schema.times import DAY_US, SECOND_US

SEED = 2026
APPS = ("support-bot", "code-assistant", "search", "review-bot")
PROVIDERS = ("openai", "anthropic", "google", "mistral")
HISTORY_US = 2 * DAY_US
HISTORY_CALLS = 20_000
CALLS_PER_SECOND = 4
REQUEST_TIMEOUT_S = 5
STOP_TIMEOUT_S = 5
LINK_LIFETIME_S = 3_600

Tell = Callable[[str], None]
Progress = Callable[[str, int, int], None]


class Demo(Struct, frozen=True):
    """What a run of the demonstration starts with."""

    settings: Settings
    admin: NewKey
    apps: dict[str, NewKey]
    history_calls: int
    link: str


def prepare(settings: Settings, progress: Progress, *, history_calls: int = HISTORY_CALLS) -> Demo:
    """Make the ledger and this run's keys, and load what has happened since the last run, two days at most."""
    settings.directory.mkdir(parents=True, exist_ok=True)
    master_key.ensure(settings)
    with opened(settings) as ledger:
        _set_prices(ledger)
        admin = keys.new_key()
        add_key(ledger, keys.command(admin, "admin", clock_us(), name="demo"))
        apps = {app: keys.new_key() for app in APPS}
        for app, key in apps.items():
            add_key(ledger, keys.command(key, "app", clock_us(), app=app, name="demo"))
        loaded = _load_history(ledger, history_calls, progress)
        link = sign_in.link(settings, ledger, url(settings), admin.id, LINK_LIFETIME_S)
    return Demo(settings, admin, apps, loaded, link)


def _set_prices(ledger: Ledger) -> None:
    """The market's prices, before the first call: so the calls have costs."""
    listed, offers = installed().load()
    offered = {each.id: each for each in offers}
    for follower in selected(ledger.readers.now(followers, offered), offered, PROVIDERS):
        ledger.execute_one_now(command(keys.ACTOR, clock_us(), listed, follower, offered))


def _load_history(ledger: Ledger, calls: int, progress: Progress) -> int:
    end_us = clock_us() - SECOND_US
    start_us = max(end_us - HISTORY_US, _last_start_us(ledger) + 1)
    calls = calls * (end_us - start_us) // HISTORY_US
    if calls <= 0:
        return 0
    history = Traffic(SEED, apps=APPS).history(start_us, end_us, calls)
    done = import_calls(history, into_ledger(ledger, clock_us), lambda n: progress("sample calls", n, calls))
    return done.accepted


def _last_start_us(ledger: Ledger) -> int:
    return ledger.readers.now(lambda db: db.execute("SELECT max(started_at_us) FROM model_calls").get) or 0


def run(demo: Demo, tell: Tell) -> None:
    """Serve, with calls arriving, until SIGTERM or SIGINT."""
    stopping = threading.Event()
    arriving: list[threading.Thread] = []

    def on_ready(address: str) -> None:
        tell(welcome(demo, address))
        thread = threading.Thread(target=_post_forever, args=(address, demo, stopping), name="traffic", daemon=True)
        arriving.append(thread)
        thread.start()

    try:
        serve(demo.settings, on_ready)
    finally:
        stopping.set()
        for thread in arriving:
            thread.join(STOP_TIMEOUT_S)


def _post_forever(address: str, demo: Demo, stopping: threading.Event) -> None:
    """A few calls a second, each under its app's key; one that finds no service is left behind, as by a real client."""
    traffic = Traffic(SEED, apps=APPS)
    gaps = Random(SEED)  # noqa: S311 - sample traffic
    clients = {app: client(address, key.text) for app, key in demo.apps.items()}
    while not stopping.wait(gaps.expovariate(CALLS_PER_SECOND)):
        call = traffic.live(clock_us())
        try:
            clients[str(call["app"])].post("/v1/model-calls", json=call, timeout=REQUEST_TIMEOUT_S)
        except httpx.TransportError:
            continue
    for each in clients.values():
        each.close()


def welcome(demo: Demo, address: str) -> str:
    """Where it is, who may enter, and what to try first."""
    header = f"-H 'Authorization: Bearer {demo.admin.text}'"
    lines = (
        f"Usage Ledger demo: {address}",
        f"  sign in   {demo.link}",
        "            (once, within the hour; later with the admin key)",
        f"  data      {demo.settings.directory} ({demo.history_calls} sample calls loaded, more arriving)",
        f"  admin key {demo.admin.text}",
        "",
        "Try:",
        f"  curl {header} '{address}/v1/model-call-stats?group_by=model'",
        f"  curl {header} '{address}/v1/model-calls?limit=3'",
        "",
        "Ctrl-C stops it.",
    )
    return "\n".join(lines)
