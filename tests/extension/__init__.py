"""The smallest backend, export format and verb, as examples: ``test_extending.py`` adds them.

``echo`` goes to ``qtctl/backends/``, ``names.py`` to ``qtctl/writers/``, ``greet.py`` to
``qtctl/commands/``; ``ROWS`` has the row that each adds to a table.
"""

ROWS = {
    "qtctl/backends/table.py": (
        "    for row in (\n",
        'BackendRow(Backend("echo"), "lines of a file", cost=8),',
    ),
    "qtctl/writers/table.py": (
        "    for row in (\n",
        'Format("names", "one name a line", "qtctl.writers.names", "lines"),',
    ),
    "qtctl/verbs.py": (
        "VERBS = (\n",
        '_verb("look", "greet", "print the name of the guest"),',
    ),
}
"""By file: the line that opens the table, and the new row."""
