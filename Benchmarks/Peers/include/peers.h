// What tdxd is measured against: the same work, written by hand in C. Times are nanoseconds: of the thread's
// CPU time for what computes in one thread, so that other programs on the machine disturb less, and of CLOCK_MONOTONIC for what
// the kernel does or several threads do.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

uint64_t peer_now(void);
uint64_t peer_cpu(void);

// ---- A set of pages in a pattern -------------------------------------------------------------------------------------

// Whether page number `page` is private in a random pattern with `permille` private pages of 1,000; the same in every
// implementation.
static inline bool peer_pattern(uint32_t page, uint32_t permille) {
    uint64_t x = page * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 32)) * UINT64_C(0xd6e8feb86659fd93);
    return (uint64_t)(uint32_t)(x >> 32) * 1000 >> 32 < permille;
}

// One step of a recorded or made-up sequence of conversions.
struct peer_step {
    uint32_t first;
    uint32_t pages;
    uint32_t state;  // 0 shared, 1 private
};

// What the last operation found, so that no compiler drops it.
extern uint64_t peer_sink;
void peer_keep(uint64_t found);

// ---- A plain two-bit bitmap ------------------------------------------------------------------------------------------

struct peer_bitmap {
    uint64_t *words;
    uint64_t pages;
};
struct peer_bitmap peer_bitmap_make(uint64_t pages);
void peer_bitmap_free(struct peer_bitmap map);
void peer_bitmap_fill(struct peer_bitmap map, uint32_t permille);
uint64_t peer_bitmap_replay(struct peer_bitmap map, const struct peer_step *steps, size_t count);
uint64_t peer_bitmap_set(struct peer_bitmap map, const uint32_t *pages, const uint8_t *states, size_t count);
uint64_t peer_bitmap_lookup(struct peer_bitmap map, const uint32_t *pages, size_t count);
// Pages in state 1 of each range pages[i] ..< pages[i] + lengths[i].
uint64_t peer_bitmap_count(struct peer_bitmap map, const uint32_t *pages, const uint32_t *lengths, size_t count);
uint64_t peer_bitmap_iterate(struct peer_bitmap map, uint64_t first, uint64_t end);
size_t peer_bitmap_bytes(struct peer_bitmap map);

// ---- CRoaring: the set of private pages ------------------------------------------------------------------------------

struct roaring_bitmap_s;
struct roaring_bitmap_s *peer_roaring_make(void);
void peer_roaring_free(struct roaring_bitmap_s *map);
void peer_roaring_fill(struct roaring_bitmap_s *map, uint32_t pages, uint32_t permille);
uint64_t peer_roaring_replay(struct roaring_bitmap_s *map, const struct peer_step *steps, size_t count);
uint64_t peer_roaring_set(struct roaring_bitmap_s *map, const uint32_t *pages, const uint8_t *states, size_t count);
uint64_t peer_roaring_lookup(struct roaring_bitmap_s *map, const uint32_t *pages, size_t count);
uint64_t peer_roaring_count(
    struct roaring_bitmap_s *map, const uint32_t *pages, const uint32_t *lengths, size_t count);
uint64_t peer_roaring_iterate(struct roaring_bitmap_s *map, uint32_t first, uint32_t end);
size_t peer_roaring_bytes(struct roaring_bitmap_s *map);

// ---- guest_memfd by raw system calls ---------------------------------------------------------------------------------

// A VM of type 0 and one guest_memfd of it, made with MMAP and INIT_SHARED; vm and file are −1 on failure, and errno says why.
struct peer_memory {
    int vm;
    int file;
    uint64_t bytes;
};
struct peer_memory peer_memory_make(uint64_t bytes);
void peer_memory_close(struct peer_memory memory);
// fallocate(KEEP_SIZE) of `step` bytes at a time; 0 on failure.
uint64_t peer_memory_allocate(struct peer_memory memory, uint64_t step);
uint64_t peer_memory_punch(struct peer_memory memory, uint64_t step);
uint64_t peer_memory_close_timed(struct peer_memory memory);
// The same with one thread a file; threads are started inside the measured time.
uint64_t peer_memories_allocate(const struct peer_memory *memories, int count, uint64_t step);
uint64_t peer_memories_release(const struct peer_memory *memories, int count, int threads, uint64_t step);
// Discards `bytes` at `offset`, as a conversion of them must: madvise(DONTNEED) of the mapping and a punch.
uint64_t peer_memory_discard(struct peer_memory memory, void *mapping, uint64_t offset, uint64_t bytes);
void *peer_memory_map(struct peer_memory memory);
void peer_memory_unmap(void *mapping, uint64_t bytes);
uint64_t peer_resident_bytes(void);

// ---- The module's metadata -------------------------------------------------------------------------------------------

// 16 bytes of PAMT and 8 of Secure EPT for each page, as the module keeps them, and one account of pages.
struct peer_metadata {
    uint64_t *pamt;
    uint64_t *table;
    uint64_t pages;
    uint64_t children;
};
struct peer_metadata peer_metadata_make(uint64_t pages);
void peer_metadata_free(struct peer_metadata metadata);
uint64_t peer_metadata_aug(struct peer_metadata *metadata);
uint64_t peer_metadata_accept(struct peer_metadata *metadata);
uint64_t peer_metadata_block(struct peer_metadata *metadata, uint64_t epoch);
uint64_t peer_metadata_remove(struct peer_metadata *metadata);
uint64_t peer_metadata_reclaim(struct peer_metadata *metadata);

// ---- A program that ends ---------------------------------------------------------------------------------------------

// A child that holds one guest_memfd of so many bytes, all present; pid is −1 on failure.
struct peer_program {
    int pid;
    int order;
};
struct peer_program peer_program_start(uint64_t bytes);
// Tells it to close the file and exit, and waits until it is gone; 0 when it failed.
uint64_t peer_program_end(struct peer_program program);
