"""What a sample is: people pictures, captions, labels, splits."""
