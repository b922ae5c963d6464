"""One module per rule of the workflow, of the same name; each is a command."""
