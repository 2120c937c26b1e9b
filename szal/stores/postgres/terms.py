"""What statements to PostgreSQL have in common."""

__all__ = ["FINISHED", "ID", "NOW", "SOON", "STARTED", "STATE"]

NOW = "extract(epoch FROM clock_timestamp())::float8"
SOON = "extract(epoch FROM statement_timestamp())::float8"  # stable: an index can be searched for it

# The columns that are kept of a record (szal.stores.heads), of each row that is one. Collation "C", which those that
# sort have too, is the order of code points, whatever the database's language is.
STATE, STARTED, FINISHED = "state", "started", "finished"
ID = 'execution_id COLLATE "C"'
