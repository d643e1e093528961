"""What all rooms use and what knows of none of them."""
