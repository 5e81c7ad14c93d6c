"""HTTP: routes, authentication, wire formats. Holds no SQL and no business rules."""
