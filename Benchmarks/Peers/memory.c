// guest_memfd as a program in C uses it: raw ioctls and fallocate.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "peers.h"

// Older headers than the kernel lack these.
struct create_guest_memfd {
    uint64_t size;
    uint64_t flags;
    uint64_t reserved[6];
};
#define CREATE_GUEST_MEMFD _IOWR(0xAE, 0xd4, struct create_guest_memfd)
#define FLAGS_MMAP_INIT_SHARED 3

struct peer_memory peer_memory_make(uint64_t bytes) {
    struct peer_memory memory = {-1, -1, bytes};
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0) return memory;
    memory.vm = ioctl(kvm, KVM_CREATE_VM, 0);
    close(kvm);
    if (memory.vm < 0) return memory;
    struct create_guest_memfd arguments = {.size = bytes, .flags = FLAGS_MMAP_INIT_SHARED};
    memory.file = ioctl(memory.vm, CREATE_GUEST_MEMFD, &arguments);
    if (memory.file < 0) {
        int reason = errno;
        close(memory.vm);
        memory.vm = -1;
        errno = reason;
    }
    return memory;
}

void peer_memory_close(struct peer_memory memory) {
    close(memory.file);
    close(memory.vm);
}

static bool steps(struct peer_memory memory, int mode, uint64_t step) {
    for (uint64_t offset = 0; offset < memory.bytes; offset += step) {
        uint64_t length = memory.bytes - offset < step ? memory.bytes - offset : step;
        while (fallocate(memory.file, mode, (off_t)offset, (off_t)length) != 0)
            if (errno != EINTR) return false;
    }
    return true;
}

uint64_t peer_memory_allocate(struct peer_memory memory, uint64_t step) {
    uint64_t start = peer_now();
    if (!steps(memory, FALLOC_FL_KEEP_SIZE, step)) return 0;
    return peer_now() - start;
}

uint64_t peer_memory_punch(struct peer_memory memory, uint64_t step) {
    uint64_t start = peer_now();
    if (!steps(memory, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, step)) return 0;
    return peer_now() - start;
}

uint64_t peer_memory_close_timed(struct peer_memory memory) {
    uint64_t start = peer_now();
    peer_memory_close(memory);
    return peer_now() - start;
}

struct share {
    const struct peer_memory *memories;
    int count;
    int mode;
    uint64_t step;
    int next;
    bool failed;
};

static void *work(void *argument) {
    struct share *share = argument;
    for (;;) {
        int index = __atomic_fetch_add(&share->next, 1, __ATOMIC_RELAXED);
        if (index >= share->count) return NULL;
        if (!steps(share->memories[index], share->mode, share->step)) __atomic_store_n(&share->failed, true, __ATOMIC_RELAXED);
    }
}

static bool in_threads(struct share *share, int threads) {
    pthread_t others[16];
    int started = 0;
    while (started < threads - 1 && started < 16 && pthread_create(&others[started], NULL, work, share) == 0) started++;
    work(share);
    for (int i = 0; i < started; i++) pthread_join(others[i], NULL);
    return !share->failed;
}

uint64_t peer_memories_allocate(const struct peer_memory *memories, int count, uint64_t step) {
    struct share share = {memories, count, FALLOC_FL_KEEP_SIZE, step, 0, false};
    uint64_t start = peer_now();
    if (!in_threads(&share, count)) return 0;
    return peer_now() - start;
}

uint64_t peer_memories_release(const struct peer_memory *memories, int count, int threads, uint64_t step) {
    struct share share = {memories, count, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, step, 0, false};
    uint64_t start = peer_now();
    if (!in_threads(&share, threads)) return 0;
    for (int i = 0; i < count; i++) peer_memory_close(memories[i]);
    return peer_now() - start;
}

void *peer_memory_map(struct peer_memory memory) {
    void *mapping = mmap(NULL, memory.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory.file, 0);
    return mapping == MAP_FAILED ? NULL : mapping;
}

void peer_memory_unmap(void *mapping, uint64_t bytes) { munmap(mapping, bytes); }

uint64_t peer_memory_discard(struct peer_memory memory, void *mapping, uint64_t offset, uint64_t bytes) {
    uint64_t start = peer_now();
    if (madvise((char *)mapping + offset, bytes, MADV_DONTNEED) != 0) return 0;
    if (fallocate(memory.file, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, (off_t)offset, (off_t)bytes) != 0) return 0;
    return peer_now() - start;
}
