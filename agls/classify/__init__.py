"""Gunfire or not: features and model in numpy alone, and the training that made the model."""
