"""Statistics of the comparison: how times of ranks, batches and rounds become one time, one ratio and its interval."""
import math


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def slowest_rank(batches_of_ranks):
    """[rank][batch] -> one time: the slowest rank of each batch, the median of the batches."""
    return median([max(batch) for batch in zip(*batches_of_ranks)])


def rank_of_interval(count):
    """How many values to leave out at each end, so that the median lies between the rest with at least 95 % (for fewer than six
    values nothing can be left out, and the probability is what it is: 93.75 % for five)."""
    left_out, outside = 0, 0.5 ** count * 2
    while True:
        outside += 2 * math.comb(count, left_out + 1) * 0.5 ** count
        if outside > 0.05 or 2 * (left_out + 1) >= count:
            return left_out
        left_out += 1


def interval(values):
    """Median of the values, and the ends of its interval by order: no assumption on how the values are spread."""
    ordered = sorted(values)
    left_out = rank_of_interval(len(ordered))
    return median(ordered), ordered[left_out], ordered[len(ordered) - 1 - left_out]


def ratio(ours, theirs):
    """Time of a peer over our time, round by round, as rounds are interleaved: (median, low, high); above 1 we are faster. Rounds
    that one of both lacks do not count. None: no round has both."""
    pairs = [t / o for o, t in zip(ours, theirs) if o is not None and t is not None]
    return interval(pairs) if pairs else None


def geometric_mean(values):
    values = list(values)
    return math.exp(sum(math.log(v) for v in values) / len(values)) if values else None


def behind(triple, limit=0.95):
    """Behind: even the upper end of the interval is below the limit."""
    return triple is not None and triple[2] < limit
