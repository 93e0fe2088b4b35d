"""The GPU on this machine, through wgpu (Vulkan is the native path)."""
