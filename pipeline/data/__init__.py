"""What is read and written: storage, plan, shards, images, captions, manifests, ledger, card."""
