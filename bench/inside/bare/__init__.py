"""The floors that need a server of their own: the same web server, middleware and database, and no product."""
