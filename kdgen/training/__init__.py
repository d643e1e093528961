"""A run: a chain of nets, each trained by one loop, with what that needs."""
