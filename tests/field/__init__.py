"""The heavy lane, ``./dev test --field``: whole systems, packages, other Pythons, fuzzing."""
