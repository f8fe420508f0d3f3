"""Text for people: tables, colour, escaping. Draws values, owns no session."""
