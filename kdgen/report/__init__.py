"""What came of a run: who is better, by how much, at what cost, in a table, pictures and a model card."""
