"""How large a picture or array may be before it is read: judged by its header, since small files can become large.

All limits of images and data sets stand here. Each keeps what a reader holds at once below 2 GiB; a message that names
one says how to go on. Knows no files.
"""

MOST_PIXELS = 89_478_485  # of a picture, 9,459 × 9,459: Pillow's own limit; JPEGs up to twice that are read smaller
MOST_DEEP_PIXELS = 1 << 25  # of a colour picture with 16 bits a channel, which is decoded twice
MOST_FILE_BYTES = 1 << 29  # of a picture file: some decoders read all of it first
MOST_ARRAY_BYTES = 1 << 30  # of all arrays that are read from one .npz
MOST_PICTURE_NUMBERS = 1 << 28  # pixels times channels of one picture of an array file
MOST_IDX_BYTES = 1 << 30  # of a packed file of MNIST's format: EMNIST's largest has 0.55 GB
MOST_MAT_BYTES = 1_750_000_000  # of SVHN's files when unpacked: the largest has 1.64 GB
MOST_PICKLE_BYTES = 1 << 29  # of CIFAR's files: the largest has 0.16 GB
MOST_NAMES_BYTES = 1 << 20  # of a text file of class names
