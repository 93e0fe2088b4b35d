"""Plans tensor layouts for ExecuTorch's Vulkan delegate: optimal, proven, checked."""

__version__ = "0.2.0"
