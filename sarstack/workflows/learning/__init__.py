"""Train or finetune a network on a stack: from files to a model."""
