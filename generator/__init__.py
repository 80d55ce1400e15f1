"""Turns accepted patterns into the YAML that allows exactly them."""

from generator.allowlist import generate
from generator.files import render, write

__all__ = ["generate", "render", "write"]
