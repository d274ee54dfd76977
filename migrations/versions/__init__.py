"""One file a change of the schema; its name says the effect."""
