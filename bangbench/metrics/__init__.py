"""Image similarity: SSIM, ECC alignment, PASS; and distances on the grey-level grid."""
