"""What happens beside the steps of training: masks, averages, figures, progress, checkpoints."""
