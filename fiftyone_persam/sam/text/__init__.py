"""Phrases as prompts: BEiT-3, EVF-SAM, its tokenizer and its published checkpoints."""
