"""The checks, by area; each module's are in the order in which they are made."""
