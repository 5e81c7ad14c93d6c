"""The journal and its rules: append, decide, rebuild. Knows nothing of HTTP or the environment."""
