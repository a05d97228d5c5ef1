// Files that are memory: memfd, mappings, residency, and the plain file calls around them.
#pragma once
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

// M_ARENA_MAX (-8): at most this many heaps, however many threads come and go; 1 on success.
int mallopt(int, int);
static inline int tdxd_limit_heaps(int count) { return mallopt(-8, count); }
// Whole pages of freed memory go back to the kernel, wherever in a heap they lie; 1 if there were any.
int malloc_trim(size_t);
static inline int tdxd_trim_heaps(void) { return malloc_trim(0); }

static inline int tdxd_close(int fd) { return close(fd) == 0 ? 0 : -errno; }

// ---- open, read, links -------------------------------------------------------------------------------------------

static inline int tdxd_open(const char *path, int flags, unsigned mode) {
    int fd = open(path, flags | O_CLOEXEC, mode);
    return fd >= 0 ? fd : -errno;
}

// openat2(2) with O_PATH, of a name beneath a directory: no link is followed, and nothing leads out.
static inline int tdxd_open_beneath(int directory, const char *path) {
    struct {
        uint64_t flags, mode, resolve;
    } how = {010000000 | O_CLOEXEC, 0, 0x02 | 0x04 | 0x08};  // NO_MAGICLINKS, NO_SYMLINKS, BENEATH
    int fd = (int)syscall(437, directory, path, &how, sizeof how);
    return fd >= 0 ? fd : -errno;
}

// The type of the file system that an open file is on.
static inline int tdxd_file_system_type(int fd, uint32_t *type) {
    struct statfs status;
    if (fstatfs(fd, &status) != 0) return -errno;
    *type = (uint32_t)status.f_type;
    return 0;
}

static inline int64_t tdxd_read(int fd, void *buffer, size_t size) {
    ssize_t n = read(fd, buffer, size);
    return n >= 0 ? n : -errno;
}

static inline int64_t tdxd_pread(int fd, void *buffer, size_t size, int64_t offset) {
    ssize_t n = pread(fd, buffer, size, offset);
    return n >= 0 ? n : -errno;
}

static inline int64_t tdxd_pwrite(int fd, const void *buffer, size_t size, int64_t offset) {
    ssize_t n = pwrite(fd, buffer, size, offset);
    return n >= 0 ? n : -errno;
}

// Opens /dev/null for each of descriptors 0 to 2 that is closed. Bits of those that were, or -errno.
static inline int tdxd_open_standard_descriptors(void) {
    int closed = 0;
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) >= 0) continue;
        // The lowest free number is this one: those below are open.
        if (open("/dev/null", O_RDWR) < 0) return -errno;
        closed |= 1 << fd;
    }
    return closed;
}

static inline int64_t tdxd_write(int fd, const void *buffer, size_t size) {
    ssize_t n = write(fd, buffer, size);
    return n >= 0 ? n : -errno;
}

static inline int64_t tdxd_readlink(const char *path, char *buffer, size_t size) {
    ssize_t n = readlink(path, buffer, size);
    return n >= 0 ? n : -errno;
}

// 1 where a file's extended attribute has that text, 0 where it has another or none that may be read.
static inline int tdxd_has_attribute(const char *path, const char *name, const char *text) {
    char value[64];
    ssize_t n = getxattr(path, name, value, sizeof value);
    return n >= 0 && (size_t)n == strlen(text) && memcmp(value, text, (size_t)n) == 0;
}

// 1 where a file has that extended attribute, whatever it says.
static inline int tdxd_has_any_attribute(const char *path, const char *name) {
    return getxattr(path, name, NULL, 0) >= 0;
}

static inline int tdxd_access(const char *path, int mode) { return access(path, mode) == 0 ? 0 : -errno; }
static inline int tdxd_unlink(const char *path) { return unlink(path) == 0 ? 0 : -errno; }
static inline int tdxd_remove_directory(const char *path) { return rmdir(path) == 0 ? 0 : -errno; }

// A new directory that only this user may enter, in $TMPDIR or /tmp: its path, to be freed; NULL where none can be
// made.
static inline char *tdxd_make_temporary_directory(const char *name) {
    const char *place = getenv("TMPDIR");
    char *path = NULL;
    if (place == NULL || place[0] != '/') place = "/tmp";
    size_t room = strlen(place) + strlen(name) + 9;
    path = (char *)malloc(room);
    if (path == NULL) return NULL;
    snprintf(path, room, "%s/%s.XXXXXX", place, name);
    if (mkdtemp(path) == NULL) {
        free(path);
        return NULL;
    }
    return path;
}

// What systemd does to a control group that it hands over; for those who stand in for it.
static inline int tdxd_set_attribute(const char *path, const char *name, const char *text) {
    return setxattr(path, name, text, strlen(text), 0) == 0 ? 0 : -errno;
}

// Duplicates keep close-on-exec; the number is at least `lowest`.
static inline int tdxd_duplicate(int fd, int lowest) {
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, lowest);
    return copy >= 0 ? copy : -errno;
}

static inline int tdxd_get_close_on_exec(int fd) {
    int flags = fcntl(fd, F_GETFD);
    return flags >= 0 ? (flags & FD_CLOEXEC) != 0 : -errno;
}

static inline int tdxd_set_close_on_exec(int fd, int on) {
    return fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0) == 0 ? 0 : -errno;
}

// What of struct stat the project looks at, in fixed widths.
struct tdxd_file_status {
    uint64_t device;
    uint64_t inode;
    uint64_t size;
    uint64_t blocks;
    uint64_t links;
    uint32_t mode;
    uint32_t block_size;
    uint32_t uid;
    uint32_t gid;
};

static inline void tdxd_copy_status(const struct stat *from, struct tdxd_file_status *to) {
    to->device = from->st_dev;
    to->inode = from->st_ino;
    to->size = (uint64_t)from->st_size;
    to->blocks = (uint64_t)from->st_blocks;
    to->links = from->st_nlink;
    to->mode = from->st_mode;
    to->block_size = (uint32_t)from->st_blksize;
    to->uid = from->st_uid;
    to->gid = from->st_gid;
}

static inline int tdxd_fstat(int fd, struct tdxd_file_status *status) {
    struct stat s;
    if (fstat(fd, &s) != 0) return -errno;
    tdxd_copy_status(&s, status);
    return 0;
}

static inline int tdxd_stat(const char *path, int follow, struct tdxd_file_status *status) {
    struct stat s;
    if (fstatat(AT_FDCWD, path, &s, follow ? 0 : AT_SYMLINK_NOFOLLOW) != 0) return -errno;
    tdxd_copy_status(&s, status);
    return 0;
}

// Calls `each` with every name of a directory but "." and "..". 0 or -errno.
static inline int tdxd_list_directory(const char *path, void *context, void (*each)(void *, const char *)) {
    DIR *directory = opendir(path);
    if (!directory) return -errno;
    int result = 0;
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(directory);
        if (!entry) {
            result = -errno;
            break;
        }
        const char *n = entry->d_name;
        if (n[0] == '.' && (n[1] == 0 || (n[1] == '.' && n[2] == 0))) continue;
        each(context, n);
    }
    closedir(directory);
    return result;
}

// Calls `each` with the name and the target of every symbolic link of a directory whose target contains `part`. Links
// that go meanwhile are passed over; targets are cut after 255 bytes. Gives the number of links looked at, or -errno.
static inline int64_t tdxd_find_links(
    const char *path, const char *part, void *context, void (*each)(void *, const char *, const char *)) {
    DIR *directory = opendir(path);
    if (!directory) return -errno;
    int64_t result = 0;
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(directory);
        if (!entry) {
            if (errno) result = -errno;
            break;
        }
        if (entry->d_name[0] == '.') continue;
        char target[256];
        ssize_t length = readlinkat(dirfd(directory), entry->d_name, target, sizeof target - 1);
        if (length < 0) {
            // A process that may be listed but not looked into: its links cannot be read at all.
            if (errno == EACCES || errno == EPERM) {
                result = -errno;
                break;
            }
            continue;
        }
        result++;
        target[length] = 0;
        if (strstr(target, part)) each(context, entry->d_name, target);
    }
    closedir(directory);
    return result;
}

// glibc declares these under _GNU_SOURCE only.
int fallocate(int, int, off_t, off_t);
int memfd_create(const char *, unsigned);
#ifndef MFD_CLOEXEC
#define MFD_CLOEXEC 1U
#define MFD_ALLOW_SEALING 2U
#endif
#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#define F_GET_SEALS 1034
#endif

// ---- figures that others read --------------------------------------------------------------------------------------

// A sequence lock in shared memory: word 0 is odd while words 1 to 4 are being written, and 0 before they ever were.
static inline void tdxd_figures_write(void *page, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    uint64_t *words = (uint64_t *)page;
    uint64_t sequence = __atomic_load_n(&words[0], __ATOMIC_RELAXED);
    __atomic_store_n(&words[0], sequence + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    __atomic_store_n(&words[1], a, __ATOMIC_RELAXED);
    __atomic_store_n(&words[2], b, __ATOMIC_RELAXED);
    __atomic_store_n(&words[3], c, __ATOMIC_RELAXED);
    __atomic_store_n(&words[4], d, __ATOMIC_RELAXED);
    __atomic_store_n(&words[0], sequence + 2, __ATOMIC_RELEASE);
}

// 1 with the figures, 0 when there are none or a writer never finishes.
static inline int tdxd_figures_read(const void *page, uint64_t *figures) {
    const uint64_t *words = (const uint64_t *)page;
    for (int attempt = 0; attempt < 10000; attempt++) {
        uint64_t before = __atomic_load_n(&words[0], __ATOMIC_ACQUIRE);
        if (before == 0) return 0;
        if (before & 1) continue;
        for (int i = 0; i < 4; i++) figures[i] = __atomic_load_n(&words[1 + i], __ATOMIC_RELAXED);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (__atomic_load_n(&words[0], __ATOMIC_RELAXED) == before) return 1;
    }
    return 0;
}

// ---- memfd -------------------------------------------------------------------------------------------------------

static inline int tdxd_memfd_create(const char *name, int sealable) {
    unsigned flags = MFD_CLOEXEC | (sealable ? MFD_ALLOW_SEALING : 0);
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
    // Linux 6.3 wants a flag for a file that is not a program; older kernels refuse the flag.
    int fd = memfd_create(name, flags | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) fd = memfd_create(name, flags);
    return fd >= 0 ? fd : -errno;
}

static inline int tdxd_add_seals(int fd, unsigned seals) {
    return fcntl(fd, F_ADD_SEALS, seals) == 0 ? 0 : -errno;
}

static inline int tdxd_get_seals(int fd) {
    int seals = fcntl(fd, F_GET_SEALS);
    return seals >= 0 ? seals : -errno;
}

static inline int tdxd_ftruncate(int fd, uint64_t size) { return ftruncate(fd, (off_t)size) == 0 ? 0 : -errno; }

// `mode` is FALLOC_FL_*; one attempt, EINTR included.
static inline int tdxd_fallocate(int fd, int mode, uint64_t offset, uint64_t length) {
    return fallocate(fd, mode, (off_t)offset, (off_t)length) == 0 ? 0 : -errno;
}

// ---- residency ---------------------------------------------------------------------------------------------------

struct tdxd_cachestat {
    uint64_t nr_cache;
    uint64_t nr_dirty;
    uint64_t nr_writeback;
    uint64_t nr_evicted;
    uint64_t nr_recently_evicted;
};

// Whether a file's pages are all the memory it has, and i_blocks counts them: shmem, which serves memfds and tmpfs.
// 1, 0 or -errno.
static inline int tdxd_is_shmem(int fd) {
    struct statfs s;
    if (fstatfs(fd, &s) != 0) return -errno;
    return s.f_type == 0x01021994;  // TMPFS_MAGIC
}

// f_type of the file system that a file is on, as fstatfs(2) has it, or -errno.
static inline int64_t tdxd_file_system(int fd) {
    struct statfs s;
    if (fstatfs(fd, &s) != 0) return -errno;
    return (int64_t)s.f_type;
}

// lseek(2) for SEEK_DATA (data = 1) or SEEK_HOLE (data = 0): the place found, or -errno; ENXIO: none before the end.
static inline int64_t tdxd_seek_content(int fd, uint64_t from, int data) {
    off_t found = lseek(fd, (off_t)from, data ? 3 : 4);
    return found >= 0 ? found : -errno;
}

// cachestat(2), system call 451 since Linux 6.5; glibc 2.36 has no wrapper. Length 0 means to the end.
static inline int tdxd_cachestat_range(int fd, uint64_t offset, uint64_t length, struct tdxd_cachestat *result) {
    struct { uint64_t off, len; } range = {offset, length};
    return syscall(451, fd, &range, result, 0) == 0 ? 0 : -errno;
}

// ---- mappings ----------------------------------------------------------------------------------------------------

static inline int tdxd_mmap(void **address, uint64_t size, int protection, int flags, int fd, uint64_t offset) {
    void *p = mmap(NULL, size, protection, flags, fd, (off_t)offset);
    if (p == MAP_FAILED) return -errno;
    *address = p;
    return 0;
}

// Memory of this process by its address, which may be anything: a bad one is -EFAULT and no signal. Where the
// kernel does not allow that call it is a plain copy.
static inline int tdxd_read_own(void *to, uintptr_t from, size_t size) {
    struct { void *base; size_t size; } local = {to, size}, remote = {(void *)from, size};
    long done = syscall(SYS_process_vm_readv, getpid(), &local, 1UL, &remote, 1UL, 0UL);
    if (done < 0 && (errno == ENOSYS || errno == EPERM)) {
        memcpy(to, (const void *)from, size);
        return 0;
    }
    return done == (long)size ? 0 : -EFAULT;
}

static inline int tdxd_write_own(uintptr_t to, const void *from, size_t size) {
    struct { void *base; size_t size; } local = {(void *)(uintptr_t)from, size}, remote = {(void *)to, size};
    long done = syscall(SYS_process_vm_writev, getpid(), &local, 1UL, &remote, 1UL, 0UL);
    if (done < 0 && (errno == ENOSYS || errno == EPERM)) {
        memcpy((void *)to, from, size);
        return 0;
    }
    return done == (long)size ? 0 : -EFAULT;
}

static inline int tdxd_munmap(void *address, uint64_t size) { return munmap(address, size) == 0 ? 0 : -errno; }

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
enum {
    tdxd_madv_dontneed = MADV_DONTNEED,
    tdxd_madv_dontfork = MADV_DONTFORK,
    tdxd_madv_dontdump = MADV_DONTDUMP,
    tdxd_madv_populate_read = MADV_POPULATE_READ,
    tdxd_madv_populate_write = MADV_POPULATE_WRITE,
};

static inline int tdxd_madvise(void *address, uint64_t size, int advice) {
    return madvise(address, size, advice) == 0 ? 0 : -errno;
}

// mbind(2) and get_mempolicy(2) by number: libnuma is not needed for them. The mask covers nodes 0 to 63.
static inline int tdxd_mbind(void *address, uint64_t size, int policy, uint64_t node_mask) {
    unsigned long mask = node_mask;
    return syscall(SYS_mbind, address, size, policy, node_mask ? &mask : NULL, node_mask ? 65UL : 0UL, 0U) == 0
               ? 0
               : -errno;
}

// Of the calling thread, and of those that it starts from then on.
static inline int tdxd_set_mempolicy(int policy, uint64_t node_mask) {
    unsigned long mask = node_mask;
    return syscall(SYS_set_mempolicy, policy, node_mask ? &mask : NULL, node_mask ? 65UL : 0UL) == 0 ? 0 : -errno;
}

// No flag asks for the calling thread's policy. MPOL_F_ADDR (2) asks for the policy of an address, MPOL_F_NODE |
// MPOL_F_ADDR (3) for the node of its page.
static inline int tdxd_get_mempolicy(void *address, int flags, int *policy, uint64_t *node_mask) {
    unsigned long mask[16] = {0};
    int node_query = flags & 1;
    if (syscall(SYS_get_mempolicy, policy, node_query ? NULL : mask, node_query ? 0UL : 1024UL, address, flags) != 0)
        return -errno;
    if (!node_query) *node_mask = mask[0];
    return 0;
}

// Fills memory past the caches, 16 bytes at a time: what is timed then is memory, not a cache. `size` is a multiple of
// 64, `memory` aligned to 64.
static inline void tdxd_stream_fill(void *memory, size_t size, uint8_t value) {
#if defined(__SSE2__)
    typedef long long tdxd_pair __attribute__((vector_size(16)));
    uint64_t word = value * UINT64_C(0x0101010101010101);
    tdxd_pair pair = {(long long)word, (long long)word};
    tdxd_pair *end = (tdxd_pair *)((char *)memory + size);
    for (tdxd_pair *place = memory; place < end; place++)
        __builtin_nontemporal_store(pair, place);
    __builtin_ia32_sfence();
#else
    for (size_t place = 0; place < size; place++) ((volatile uint8_t *)memory)[place] = value;
#endif
}
