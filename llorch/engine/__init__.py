"""COMPUTES. One protocol for everything that turns a prompt into tokens."""
