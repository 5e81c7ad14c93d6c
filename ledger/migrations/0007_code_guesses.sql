-- State: who named codes of coupons that there are not, and when. Columns as the fields in ledger/code_guesses.py.
CREATE TABLE IF NOT EXISTS code_guesses (
    actor     TEXT PRIMARY KEY,
    last_us   INTEGER NOT NULL,
    times_us  TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS code_guesses_by_last ON code_guesses (last_us);
