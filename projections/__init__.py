"""Tables derived from events. They decide nothing and can always be rebuilt from position 1."""
