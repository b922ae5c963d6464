"""What the training stages share: loading, settings, resume, metrics, exported checkpoints and the wandb mirror."""
