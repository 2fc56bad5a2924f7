"""The store on SQLAlchemy Core: SQLite embedded, PostgreSQL in production, the same statements on both."""
