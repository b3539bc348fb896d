"""Method, data, execution and assessment of protected image-caption corpora."""
