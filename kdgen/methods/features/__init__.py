"""Match what the nets hold inside."""
