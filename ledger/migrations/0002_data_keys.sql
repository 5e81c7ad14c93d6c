-- State: the data keys that secrets are sealed with, one a subject, each encrypted with a master key outside this file.
-- Erasing a subject deletes its row, so it can be neither an event nor derived from one.
CREATE TABLE IF NOT EXISTS data_keys (
    id             TEXT PRIMARY KEY,
    subject        TEXT NOT NULL UNIQUE,
    master_key_id  TEXT NOT NULL,
    nonce          BLOB NOT NULL CHECK (length(nonce) = 12),
    wrapped        BLOB NOT NULL CHECK (length(wrapped) = 48),
    created_at_us  INTEGER NOT NULL
) STRICT;

CREATE INDEX IF NOT EXISTS data_keys_by_master_key ON data_keys (master_key_id, id);

-- The master key that new data keys are wrapped with, whichever process makes them.
CREATE TABLE IF NOT EXISTS master_key (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id  TEXT NOT NULL
) STRICT;
