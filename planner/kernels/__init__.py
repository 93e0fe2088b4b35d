"""What the kernels of ET-VK take: representations by operator, release and known fault."""
