"""Sources of images (digits, mnist, cifar10, npz files, image folders), all read into one `Dataset`."""
