"""The parts of the pipeline: method, data, execution, assessment."""
