"""Mean and deviation of ImageNet's pixels, which many published encoders scale their inputs with."""

IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
"""Per channel R, G, B, on the 0-255 scale."""
