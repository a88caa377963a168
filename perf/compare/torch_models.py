"""What DistributedDataParallel sends for three models: the parameters' sizes by arithmetic from the published architectures, and
the buckets that torch makes of them."""

FLOAT_BYTES = 4
# torch's own: the first bucket is small so that it starts early.
FIRST_BUCKET_BYTES, BUCKET_BYTES = 1 << 20, 25 << 20


def resnet50():
    sizes, before = [64 * 3 * 49, 64, 64], 64
    for blocks, width in ((3, 64), (4, 128), (6, 256), (3, 512)):
        for block in range(blocks):
            sizes += [before * width, width, width, width * width * 9, width, width, width * 4 * width, 4 * width, 4 * width]
            if block == 0:
                sizes += [before * 4 * width, 4 * width, 4 * width]
            before = 4 * width
    return sizes + [2048 * 1000, 1000]


def bert_large():
    h = 1024
    layer = [h * h, h] * 4 + [h, h, h * 4 * h, 4 * h, 4 * h * h, h, h, h]
    return [30522 * h, 512 * h, 2 * h, h, h] + 24 * layer + [h * h, h]


def gpt2():
    h = 768
    layer = [h, h, h * 3 * h, 3 * h, h * h, h, h, h, h * 4 * h, 4 * h, 4 * h * h, h]
    return [50257 * h, 1024 * h] + 12 * layer + [h, h]


MODELS = {"resnet50": resnet50, "bert-large": bert_large, "gpt2": gpt2}


def buckets(sizes):
    """Elements of each bucket, in the order they are reduced: gradients are ready from the last layer to the first."""
    found, filled, limit = [], 0, FIRST_BUCKET_BYTES
    for size in reversed(sizes):
        filled += size
        if filled * FLOAT_BYTES >= limit:
            found.append(filled)
            filled, limit = 0, BUCKET_BYTES
    return found + ([filled] if filled else [])
