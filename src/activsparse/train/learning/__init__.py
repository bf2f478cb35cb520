"""How a network learns, whatever the task: optimiser, teacher, average of the weights."""
