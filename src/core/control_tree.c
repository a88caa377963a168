/* Shape of the control plane's tree. A subtree is a range of ranks, so that gathered data is in rank order without
 * labels; the rest of a range is cut into up to WEFT_TREE_FANOUT even parts, so that the depth is O(log size). */
#include "core/rendezvous.h"

#include <string.h>

static void divide(weft_tree_place *place)
{
    int rest = place->high - place->low - 1, next = place->low + 1;
    place->children = rest < WEFT_TREE_FANOUT ? rest : WEFT_TREE_FANOUT;
    for (int i = 0; i < place->children; i++) {
        place->child[i] = next;
        next += rest / place->children + (i < rest % place->children);
        place->child_high[i] = next;
    }
}

void weft_tree_find(int rank, int size, weft_tree_place *place)
{
    *place = (weft_tree_place){ .parent = -1, .low = 0, .high = size };
    for (divide(place); place->low != rank; divide(place)) {
        int i = 0;
        while (rank >= place->child_high[i])
            i++;
        place->parent = place->low;
        place->low = place->child[i];
        place->high = place->child_high[i];
    }
}

static bool has(const uint64_t *bits, int rank)
{
    return bits[rank / 64] >> (rank % 64) & 1;
}

void weft_rank_list(const uint64_t *bits, int size, char *text, size_t bytes)
{
    int ranges = 0, total = 0, shown = 0;
    char list[200] = "";
    for (int r = 0; r < size; r++) {
        if (!has(bits, r))
            continue;
        int last = r;
        while (last + 1 < size && has(bits, last + 1))
            last++;
        size_t used = strlen(list);
        if (used < sizeof list - 40) {
            if (last == r)
                snprintf(list + used, sizeof list - used, "%s%d", ranges != 0 ? ", " : "", r);
            else
                snprintf(list + used, sizeof list - used, "%s%d-%d", ranges != 0 ? ", " : "", r, last);
            shown += last - r + 1;
        }
        ranges++;
        total += last - r + 1;
        r = last;
    }
    if (total > shown)
        snprintf(text, bytes, "ranks %s and %d more", list, total - shown);
    else
        snprintf(text, bytes, "%s %s", total == 1 ? "rank" : "ranks", list);
}
