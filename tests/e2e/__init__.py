"""The built file with the real model, in real processes, as a user drives it."""
