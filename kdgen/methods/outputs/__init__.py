"""Match what the nets give."""
