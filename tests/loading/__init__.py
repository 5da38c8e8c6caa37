"""Models of every kind in, float32 models at opset 20 or errors out."""
