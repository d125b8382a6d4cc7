"""The command line: one program, its sub-commands loaded when called."""
