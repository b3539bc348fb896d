"""Protected image-caption corpora: method, data, execution, and products made of them."""
