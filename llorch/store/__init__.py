"""KEEPS. Everything that stays on disk: settings, models, records of background workers."""
