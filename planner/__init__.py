"""Plans tensor layouts for ExecuTorch's Vulkan delegate: optimal, proven, checked."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("layout-planner")
except PackageNotFoundError:  # running from a source tree that was never installed
    __version__ = "0+source"
