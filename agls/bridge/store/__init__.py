"""Where incidents are kept: SQLite or PostgreSQL, and what is written together."""
