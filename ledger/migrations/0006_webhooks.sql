-- State: how far each webhook was told, and what it did not take. Columns as the fields in ledger/webhook_state.py.
CREATE TABLE IF NOT EXISTS webhook_deliveries (
    webhook           TEXT PRIMARY KEY,
    position          INTEGER NOT NULL,
    claim             INTEGER NOT NULL,
    claimed_until_us  INTEGER NOT NULL,
    attempts          INTEGER NOT NULL,
    due_at_us         INTEGER NOT NULL,
    delivered         INTEGER NOT NULL,
    delivered_at_us   INTEGER,
    failing           INTEGER NOT NULL,
    error             TEXT,
    events            INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS webhook_dead_letters (
    webhook       TEXT NOT NULL,
    position      INTEGER NOT NULL,
    attempts      INTEGER NOT NULL,
    failed_at_us  INTEGER NOT NULL,
    error         TEXT NOT NULL,
    retrying      INTEGER NOT NULL,
    PRIMARY KEY (webhook, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS webhook_dead_letters_retrying ON webhook_dead_letters (webhook) WHERE retrying;
