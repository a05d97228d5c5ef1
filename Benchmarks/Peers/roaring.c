// CRoaring as Debian ships it. 1 TiB is 2^28 pages, so its 32-bit bitmaps hold all of them: faster than the 64-bit ones, which
// put a tree in front. It keeps one bit a page (private or not), half of what the attribute map keeps.
#include <roaring/roaring.h>

#include "peers.h"

struct roaring_bitmap_s *peer_roaring_make(void) { return roaring_bitmap_create(); }
void peer_roaring_free(struct roaring_bitmap_s *map) { roaring_bitmap_free(map); }
size_t peer_roaring_bytes(struct roaring_bitmap_s *map) { return roaring_bitmap_size_in_bytes(map); }

void peer_roaring_fill(struct roaring_bitmap_s *map, uint32_t pages, uint32_t permille) {
    uint32_t buffer[4096];
    size_t used = 0;
    for (uint32_t page = 0; page < pages; page++) {
        if (!peer_pattern(page, permille)) continue;
        buffer[used++] = page;
        if (used == 4096) {
            roaring_bitmap_add_many(map, used, buffer);
            used = 0;
        }
    }
    roaring_bitmap_add_many(map, used, buffer);
    roaring_bitmap_run_optimize(map);
}

uint64_t peer_roaring_replay(struct roaring_bitmap_s *map, const struct peer_step *steps, size_t count) {
    uint64_t start = peer_cpu();
    for (size_t i = 0; i < count; i++) {
        uint64_t first = steps[i].first, end = first + steps[i].pages;
        if (steps[i].state)
            roaring_bitmap_add_range(map, first, end);
        else
            roaring_bitmap_remove_range(map, first, end);
    }
    return peer_cpu() - start;
}

uint64_t peer_roaring_set(struct roaring_bitmap_s *map, const uint32_t *pages, const uint8_t *states, size_t count) {
    uint64_t start = peer_cpu();
    for (size_t i = 0; i < count; i++) {
        if (states[i])
            roaring_bitmap_add(map, pages[i]);
        else
            roaring_bitmap_remove(map, pages[i]);
    }
    return peer_cpu() - start;
}

uint64_t peer_roaring_lookup(struct roaring_bitmap_s *map, const uint32_t *pages, size_t count) {
    uint64_t start = peer_cpu(), sum = 0;
    for (size_t i = 0; i < count; i++) sum += roaring_bitmap_contains(map, pages[i]);
    peer_sink += sum;
    return peer_cpu() - start;
}

uint64_t peer_roaring_count(
    struct roaring_bitmap_s *map, const uint32_t *pages, const uint32_t *lengths, size_t count) {
    uint64_t start = peer_cpu(), sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += roaring_bitmap_range_cardinality(map, pages[i], (uint64_t)pages[i] + lengths[i]);
    peer_sink += sum;
    return peer_cpu() - start;
}

// The library has no iterator over runs: values are read in bulk and joined.
uint64_t peer_roaring_iterate(struct roaring_bitmap_s *map, uint32_t first, uint32_t end) {
    uint64_t start = peer_cpu(), sum = 0, runs = 0;
    uint32_t buffer[1024];
    uint64_t behind = first, run = first;
    roaring_uint32_iterator_t iterator;
    roaring_init_iterator(map, &iterator);
    bool more = roaring_move_uint32_iterator_equalorlarger(&iterator, first);
    while (more) {
        uint32_t got = roaring_read_uint32_iterator(&iterator, buffer, 1024);
        for (uint32_t i = 0; i < got; i++) {
            if (buffer[i] >= end) {
                more = false;
                break;
            }
            if (buffer[i] != behind) {
                sum += behind - run;
                runs += 2;
                run = buffer[i];
            }
            behind = (uint64_t)buffer[i] + 1;
        }
        if (got < 1024) more = false;
    }
    peer_sink += sum + runs + (behind - run);
    return peer_cpu() - start;
}
