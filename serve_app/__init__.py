"""A self-hosted service that turns prompts into game-ready images, on Ray."""

__version__ = "0.1.0"
