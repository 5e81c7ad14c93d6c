-- State: rows that are neither events nor derived from them, written only in the writer's transaction.
-- Columns are in the order of the fields of the rows in ledger/lease_state.py.
CREATE TABLE IF NOT EXISTS state_commits (
    writer   TEXT NOT NULL UNIQUE,
    commits  INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS lease_head (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    sequence  INTEGER NOT NULL,
    last_us   INTEGER NOT NULL,
    pruned    INTEGER NOT NULL,
    pruned_us INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS credential_rotation (
    credential          TEXT PRIMARY KEY,
    provider            TEXT NOT NULL,
    current             INTEGER NOT NULL,
    errors              INTEGER NOT NULL,
    cleared             INTEGER NOT NULL,
    penalised_until_us  INTEGER NOT NULL,
    recheck_at_us       INTEGER,
    recheck_failures    INTEGER NOT NULL,
    last_leased_us      INTEGER,
    events              INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS credential_rotation_rechecks ON credential_rotation (recheck_at_us) WHERE recheck_at_us IS NOT NULL;

CREATE TABLE IF NOT EXISTS credential_usage (
    credential    TEXT NOT NULL,
    kind          TEXT NOT NULL CHECK (kind IN ('day', 'month')),
    period        TEXT NOT NULL,
    starts_at_us  INTEGER NOT NULL,
    ends_at_us    INTEGER NOT NULL,
    used          INTEGER NOT NULL CHECK (used >= 0),
    reset         INTEGER NOT NULL,
    near          INTEGER NOT NULL,
    exhausted     INTEGER NOT NULL,
    success       INTEGER NOT NULL,
    auth          INTEGER NOT NULL,
    payment       INTEGER NOT NULL,
    rate_limited  INTEGER NOT NULL,
    content       INTEGER NOT NULL,
    server        INTEGER NOT NULL,
    timeout       INTEGER NOT NULL,
    not_sent      INTEGER NOT NULL,
    PRIMARY KEY (credential, kind, period)
) STRICT, WITHOUT ROWID;

-- In the order in which they were made, which is the order of time, so that old ones go from one end.
CREATE TABLE IF NOT EXISTS leases (
    id              TEXT NOT NULL UNIQUE,
    sequence        INTEGER PRIMARY KEY,
    credential      TEXT NOT NULL,
    provider        TEXT NOT NULL,
    model           TEXT,
    app             TEXT,
    actor           TEXT NOT NULL,
    leased_at_us    INTEGER NOT NULL,
    expires_at_us   INTEGER NOT NULL,
    day             TEXT NOT NULL,
    month           TEXT NOT NULL,
    outcome         TEXT,
    retry_after_s   INTEGER,
    reported_at_us  INTEGER
) STRICT;

CREATE TABLE IF NOT EXISTS provider_rotation (
    provider       TEXT PRIMARY KEY,
    failures       INTEGER NOT NULL,
    cool_until_us  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS model_rotation (
    model     TEXT PRIMARY KEY,
    provider  TEXT NOT NULL
) STRICT, WITHOUT ROWID;
