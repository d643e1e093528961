"""Be taken for the teacher, or for the data, by a discriminator that learns alongside."""
