"""Operations on pixels and embeddings, one file each, chosen by device."""
