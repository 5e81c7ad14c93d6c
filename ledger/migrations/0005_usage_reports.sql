-- State: what is to be reported, and how far that is. Columns are in the order of the fields in ledger/report_state.py.
-- Sums are decimal strings: they have no bound of their own.
CREATE TABLE IF NOT EXISTS usage_report_head (
    id             INTEGER PRIMARY KEY CHECK (id = 1),
    started_after  INTEGER NOT NULL,
    position       INTEGER NOT NULL,
    sequence       INTEGER NOT NULL,
    claims         INTEGER NOT NULL,
    events         INTEGER NOT NULL,
    paused         INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS usage_report_pairs (
    app           TEXT NOT NULL,
    user_id       TEXT NOT NULL,
    base          TEXT NOT NULL,
    open          TEXT NOT NULL,
    batched       TEXT NOT NULL,
    reported      TEXT NOT NULL,
    pruned        TEXT NOT NULL,
    calls         INTEGER NOT NULL,
    tokens        TEXT NOT NULL,
    after         INTEGER NOT NULL,
    until         INTEGER NOT NULL,
    opened_at_us  INTEGER,
    PRIMARY KEY (app, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS usage_report_pairs_open ON usage_report_pairs (opened_at_us) WHERE opened_at_us IS NOT NULL;
CREATE INDEX IF NOT EXISTS usage_report_pairs_size ON usage_report_pairs (calls) WHERE opened_at_us IS NOT NULL;

CREATE TABLE IF NOT EXISTS usage_report_batches (
    id              TEXT NOT NULL UNIQUE,
    sequence        INTEGER PRIMARY KEY,
    app             TEXT NOT NULL,
    user_id         TEXT NOT NULL,
    after           INTEGER NOT NULL,
    until           INTEGER NOT NULL,
    calls           INTEGER NOT NULL,
    tokens          TEXT NOT NULL,
    amount          TEXT NOT NULL,
    value           TEXT NOT NULL,
    decimals        INTEGER NOT NULL,
    created_at_us   INTEGER NOT NULL,
    status          TEXT NOT NULL CHECK (status IN ('pending', 'claimed', 'reported', 'failed', 'dead')),
    claim           INTEGER NOT NULL,
    tries           INTEGER NOT NULL,
    attempts        INTEGER NOT NULL,
    due_at_us       INTEGER,
    first_sent_us   INTEGER,
    reported_at_us  INTEGER,
    duplicate       INTEGER NOT NULL,
    error           TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS usage_report_batches_due ON usage_report_batches (due_at_us) WHERE due_at_us IS NOT NULL;
CREATE INDEX IF NOT EXISTS usage_report_batches_unsent ON usage_report_batches (status, sequence)
    WHERE status <> 'reported';
CREATE INDEX IF NOT EXISTS usage_report_batches_pair ON usage_report_batches (app, user_id, sequence);
