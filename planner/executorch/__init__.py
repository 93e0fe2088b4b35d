"""All that imports torch or ExecuTorch: planning inside ExecuTorch's own lowering."""
