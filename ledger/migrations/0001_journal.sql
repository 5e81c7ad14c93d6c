-- The journal: one row an event. Columns beside `entry` are indexes over it; `time` is microseconds since 1970.
CREATE TABLE IF NOT EXISTS events (
    position  INTEGER PRIMARY KEY,
    source    TEXT NOT NULL,
    id        TEXT NOT NULL,
    type      TEXT NOT NULL,
    subject   TEXT NOT NULL,
    time      INTEGER NOT NULL,
    entry     TEXT NOT NULL,
    leaf_hash BLOB NOT NULL CHECK (length(leaf_hash) = 32)
) STRICT;

CREATE UNIQUE INDEX IF NOT EXISTS events_source_id ON events (source, id);

-- INSERT OR REPLACE deletes without firing delete triggers, so the insert itself is guarded too.
CREATE TRIGGER IF NOT EXISTS events_append_only BEFORE INSERT ON events
WHEN new.position IS NOT (SELECT coalesce(max(position), 0) + 1 FROM events)
    OR EXISTS (SELECT 1 FROM events WHERE source = new.source AND id = new.id)
BEGIN
    SELECT raise(ABORT, 'the journal takes only its next position, and each (source, id) once');
END;

CREATE TRIGGER IF NOT EXISTS events_no_update BEFORE UPDATE ON events
BEGIN
    SELECT raise(ABORT, 'the journal is immutable');
END;

CREATE TRIGGER IF NOT EXISTS events_no_delete BEFORE DELETE ON events
BEGIN
    SELECT raise(ABORT, 'the journal is immutable');
END;

-- The tree's right edge and the time of the last entry, moved in the transaction that appends.
CREATE TABLE IF NOT EXISTS journal_head (
    one            INTEGER PRIMARY KEY CHECK (one = 1),
    size           INTEGER NOT NULL,
    recorded_at_us INTEGER NOT NULL,
    right_edge     BLOB NOT NULL
) STRICT;

INSERT OR IGNORE INTO journal_head VALUES (1, 0, 0, x'');

-- Where each projection is, and where its replacement is while one is being built beside it.
CREATE TABLE IF NOT EXISTS projections (
    name            TEXT PRIMARY KEY,
    version         INTEGER NOT NULL,
    position        INTEGER NOT NULL,
    shadow_version  INTEGER,
    shadow_position INTEGER
) STRICT;
