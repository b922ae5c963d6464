"""The nano world: a controlled, procedurally generated stand-in for the paper's data and models."""
