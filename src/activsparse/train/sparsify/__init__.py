"""What acts on a model: finds its convolutions, gives them masks, and steps these on a schedule."""
