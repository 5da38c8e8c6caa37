"""The spellings of a quantized model, and the folder that holds them."""
