"""Backbones of transformers and timm, from a folder or the Hugging Face hub."""
