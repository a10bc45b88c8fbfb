"""Drills: sandbox, real bot and engine as processes, broken on purpose; what came of every job is counted."""
