"""Draw in a few steps what the teacher draws in many."""
