// What remains of the module's page leaves when nothing is checked and nothing is locked: the stores.
#include <stdlib.h>
#include <string.h>

#include "peers.h"

struct peer_metadata peer_metadata_make(uint64_t pages) {
    struct peer_metadata metadata = {malloc(pages * 16), malloc(pages * 8), pages, 0};
    if (!metadata.pamt || !metadata.table) abort();
    memset(metadata.pamt, 0, pages * 16);
    memset(metadata.table, 0, pages * 8);
    return metadata;
}

void peer_metadata_free(struct peer_metadata metadata) {
    free(metadata.pamt);
    free(metadata.table);
}

// Stores through volatile, so that a loop stays one store a word as the leaves make it, neither widened nor dropped.
static inline void put(uint64_t *at, uint64_t value) { *(volatile uint64_t *)at = value; }

uint64_t peer_metadata_aug(struct peer_metadata *metadata) {
    uint64_t start = peer_cpu();
    for (uint64_t page = 0; page < metadata->pages; page++) {
        put(metadata->table + page, page << 12 | 0x8000000000000030u);
        put(metadata->pamt + 2 * page, 3 | page << 12);
        put(metadata->pamt + 2 * page + 1, 0);
        put(&metadata->children, metadata->children + 1);
    }
    return peer_cpu() - start;
}

uint64_t peer_metadata_accept(struct peer_metadata *metadata) {
    uint64_t start = peer_cpu();
    for (uint64_t page = 0; page < metadata->pages; page++) put(metadata->table + page, page << 12 | 0x37);
    return peer_cpu() - start;
}

uint64_t peer_metadata_block(struct peer_metadata *metadata, uint64_t epoch) {
    uint64_t start = peer_cpu();
    for (uint64_t page = 0; page < metadata->pages; page++) {
        put(metadata->table + page, page << 12 | 0x8000000000000030u);
        put(metadata->pamt + 2 * page + 1, epoch);
    }
    return peer_cpu() - start;
}

uint64_t peer_metadata_remove(struct peer_metadata *metadata) {
    uint64_t start = peer_cpu();
    for (uint64_t page = 0; page < metadata->pages; page++) {
        put(metadata->table + page, 0x8000000000000000u);
        put(metadata->pamt + 2 * page, 0);
        put(metadata->pamt + 2 * page + 1, 0);
        put(&metadata->children, metadata->children - 1);
    }
    return peer_cpu() - start;
}

uint64_t peer_metadata_reclaim(struct peer_metadata *metadata) {
    uint64_t start = peer_cpu();
    for (uint64_t page = 0; page < metadata->pages; page++) {
        put(metadata->pamt + 2 * page, 0);
        put(metadata->pamt + 2 * page + 1, 0);
        put(&metadata->children, metadata->children - 1);
    }
    return peer_cpu() - start;
}
