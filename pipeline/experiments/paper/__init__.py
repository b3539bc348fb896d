"""The experiments of the MEM paper, a table each, made of cells that are kept once finished."""
