"""Nets as users hold them: ours, other people's, from a folder or the Hub, and what draws or tiles with them."""
