"""One role per file, read from top to bottom: subscribe, call one flow. `jml run` finds them as entry points."""
