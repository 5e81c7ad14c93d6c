-- (id, source) instead of (source, id): ids that grow with time are added at the end of one index, not at that of each
-- source. Why: ops/decisions/0025-the-identity-index.md.
CREATE UNIQUE INDEX IF NOT EXISTS events_id_source ON events (id, source);

DROP INDEX IF EXISTS events_source_id;
