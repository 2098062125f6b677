"""The vocabulary: residues, chains, records, variants, regions, batches."""
