"""The solver (Caffe's update and rate policies), the training loop and the training methods."""
