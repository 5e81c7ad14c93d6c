-- What a lease and a credential's health need to know besides; columns follow those of 0003, as fields of the rows do.
ALTER TABLE credential_rotation ADD COLUMN resealed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE credential_rotation ADD COLUMN failed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE credential_rotation ADD COLUMN unreadable_until_us INTEGER NOT NULL DEFAULT 0;
ALTER TABLE leases ADD COLUMN expires_in_s INTEGER NOT NULL DEFAULT 0;
UPDATE leases SET expires_in_s = (expires_at_us - leased_at_us) / 1000000 WHERE expires_in_s = 0;
UPDATE credential_rotation SET failed = 1 WHERE recheck_at_us IS NOT NULL;
