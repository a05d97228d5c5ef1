// Two bits a page in one array: what one would write first, and hard to beat where memory is fragmented.
#include <stdlib.h>
#include <string.h>

#include "peers.h"

static const uint64_t low_bits = 0x5555555555555555u;

struct peer_bitmap peer_bitmap_make(uint64_t pages) {
    struct peer_bitmap map = {calloc((pages + 31) / 32, 8), pages};
    // Touched at once: the page faults of a fresh array belong to no operation.
    if (map.words) memset(map.words, 0, (pages + 31) / 32 * 8);
    return map;
}
void peer_bitmap_free(struct peer_bitmap map) { free(map.words); }
size_t peer_bitmap_bytes(struct peer_bitmap map) { return (map.pages + 31) / 32 * 8; }

static inline void set(struct peer_bitmap map, uint32_t page, uint64_t state) {
    uint64_t *word = map.words + page / 32;
    unsigned shift = page % 32 * 2;
    *word = (*word & ~(UINT64_C(3) << shift)) | state << shift;
}

static void set_range(struct peer_bitmap map, uint64_t first, uint64_t end, uint64_t state) {
    uint64_t pattern = state * low_bits;
    while (first < end && first % 32) set(map, (uint32_t)first++, state);
    while (first + 32 <= end) {
        map.words[first / 32] = pattern;
        first += 32;
    }
    while (first < end) set(map, (uint32_t)first++, state);
}

void peer_bitmap_fill(struct peer_bitmap map, uint32_t permille) {
    for (uint64_t page = 0; page < map.pages; page++) set(map, (uint32_t)page, peer_pattern((uint32_t)page, permille));
}

uint64_t peer_bitmap_replay(struct peer_bitmap map, const struct peer_step *steps, size_t count) {
    uint64_t start = peer_cpu();
    for (size_t i = 0; i < count; i++)
        set_range(map, steps[i].first, (uint64_t)steps[i].first + steps[i].pages, steps[i].state);
    return peer_cpu() - start;
}

uint64_t peer_bitmap_set(struct peer_bitmap map, const uint32_t *pages, const uint8_t *states, size_t count) {
    uint64_t start = peer_cpu();
    for (size_t i = 0; i < count; i++) set(map, pages[i], states[i]);
    return peer_cpu() - start;
}

uint64_t peer_bitmap_lookup(struct peer_bitmap map, const uint32_t *pages, size_t count) {
    uint64_t start = peer_cpu(), sum = 0;
    for (size_t i = 0; i < count; i++) sum += map.words[pages[i] / 32] >> (pages[i] % 32 * 2) & 3;
    peer_sink += sum;
    return peer_cpu() - start;
}

static inline uint64_t private_pages(uint64_t word, uint64_t mask) {
    return (uint64_t)__builtin_popcountll(word & ~(word >> 1) & low_bits & mask);
}

uint64_t peer_bitmap_count(
    struct peer_bitmap map, const uint32_t *pages, const uint32_t *lengths, size_t count) {
    uint64_t start = peer_cpu(), sum = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t first = pages[i], last = first + lengths[i] - 1;
        uint64_t head = ~UINT64_C(0) << (first % 32 * 2), tail = ~UINT64_C(0) >> (62 - last % 32 * 2);
        if (first / 32 == last / 32) {
            sum += private_pages(map.words[first / 32], head & tail);
            continue;
        }
        sum += private_pages(map.words[first / 32], head);
        for (uint64_t word = first / 32 + 1; word < last / 32; word++) sum += private_pages(map.words[word], ~UINT64_C(0));
        sum += private_pages(map.words[last / 32], tail);
    }
    peer_sink += sum;
    return peer_cpu() - start;
}

// Visits every maximal run; `first` and `end` are multiples of 32.
uint64_t peer_bitmap_iterate(struct peer_bitmap map, uint64_t first, uint64_t end) {
    uint64_t start = peer_cpu(), sum = 0, runs = 0, run = first, state = map.words[first / 32] & 3;
    for (uint64_t word = first / 32; word < end / 32; word++) {
        uint64_t value = map.words[word];
        // Pages that differ from the page in front of them.
        uint64_t different = value ^ (value << 2 | state);
        different = (different | different >> 1) & low_bits;
        while (different) {
            unsigned bit = (unsigned)__builtin_ctzll(different);
            uint64_t page = word * 32 + bit / 2;
            sum += (page - run) * state;
            runs++;
            run = page;
            state = value >> bit & 3;
            different &= different - 1;
        }
        state = value >> 62;
    }
    sum += (end - run) * state;
    peer_sink += sum + runs;
    return peer_cpu() - start;
}
