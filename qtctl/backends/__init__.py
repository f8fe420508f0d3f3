"""A folder for each trace backend, and the table that lists them."""
