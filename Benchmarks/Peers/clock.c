#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "peers.h"

uint64_t peer_sink;
void peer_keep(uint64_t found) { peer_sink += found; }

static uint64_t read_clock(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t peer_now(void) { return read_clock(CLOCK_MONOTONIC); }
uint64_t peer_cpu(void) { return read_clock(CLOCK_THREAD_CPUTIME_ID); }

uint64_t peer_resident_bytes(void) {
    unsigned long size, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file) return 0;
    if (fscanf(file, "%lu %lu", &size, &resident) != 2) resident = 0;
    fclose(file);
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}
