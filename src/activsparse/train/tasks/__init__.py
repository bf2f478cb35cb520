"""What a network is for, classification or detection, and what differs between them."""
