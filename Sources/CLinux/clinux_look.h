// A look through a process in /proc, in C: there may be a million descriptors and mappings of a stranger's to pass
// over.
#pragma once

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

static inline int64_t tdxd_look_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

// Calls `each` with number, device and inode of every open file that a /proc/PID/fd directory shows. stat(2) through
// the link reaches the open file itself and opens nothing. A descriptor that was closed meanwhile is passed over; one
// that may not be looked at, as from inside a Landlock domain, ends the look.
// 0, 1 when `deadline` (CLOCK_MONOTONIC, nanoseconds) came first, or -errno.
static inline int tdxd_look_at_descriptors(
    const char *path, int64_t deadline, void *context, void (*each)(void *, int32_t, uint64_t, uint64_t)) {
    DIR *directory = opendir(path);
    if (!directory) return -errno;
    int result = 0;
    for (unsigned count = 1;; count++) {
        if (count % 64 == 0 && tdxd_look_now() > deadline) {
            result = 1;
            break;
        }
        errno = 0;
        struct dirent *entry = readdir(directory);
        if (!entry) {
            result = -errno;
            break;
        }
        int64_t number = 0;
        const char *digit = entry->d_name;
        for (; *digit >= '0' && *digit <= '9' && number <= INT32_MAX; digit++) number = number * 10 + (*digit - '0');
        if (*digit || digit == entry->d_name || number > INT32_MAX) continue;
        struct stat status;
        if (fstatat(dirfd(directory), entry->d_name, &status, 0) < 0) {
            if (errno != EACCES && errno != EPERM) continue;
            result = -errno;
            break;
        }
        each(context, (int32_t)number, status.st_dev, status.st_ino);
    }
    closedir(directory);
    return result;
}

// Reads "START-END PERMS OFFSET MAJOR:MINOR INODE   PATH". 1 for a line with an inode that is not 0.
static inline int tdxd_mapping_identity(const char *line, const char *end, uint64_t *device, uint64_t *inode) {
    for (int field = 0; field < 3; field++) {
        line = (const char *)memchr(line, ' ', (size_t)(end - line));
        if (!line) return 0;
        while (line < end && *line == ' ') line++;
    }
    uint64_t numbers[3] = {0, 0, 0};
    const char ends[3] = {':', ' ', ' '};
    for (int number = 0; number < 3; number++) {
        const unsigned base = number < 2 ? 16 : 10;
        const uint64_t most = number < 2 ? UINT32_MAX : UINT64_MAX;
        const char *first = line;
        for (; line < end && *line != ends[number]; line++) {
            unsigned digit = *line >= '0' && *line <= '9' ? (unsigned)(*line - '0')
                : *line >= 'a' && *line <= 'f'            ? (unsigned)(*line - 'a') + 10
                                                          : 16;
            if (digit >= base || numbers[number] > (most - digit) / base) return 0;
            numbers[number] = numbers[number] * base + digit;
        }
        if (line == first || (number < 2 && line == end)) return 0;
        while (line < end && (*line == ' ' || *line == ':')) line++;
    }
    *device = makedev((unsigned)numbers[0], (unsigned)numbers[1]);
    *inode = numbers[2];
    return numbers[2] != 0;
}

// Calls `each` with device and inode of every mapping of a file that a /proc/PID/maps file shows. A line that is not
// understood is passed over. 0, 1 when `deadline` came first, or -errno.
static inline int tdxd_look_at_mappings(
    const char *path, int64_t deadline, void *context, void (*each)(void *, uint64_t, uint64_t)) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return -errno;
    // The longest line is a path of 4096 bytes, each perhaps four for an escape, and 80 more; more of one is no
    // mapping's.
    char buffer[32768];
    size_t held = 0;
    int result = 0, skips = 0;
    for (;;) {
        if (tdxd_look_now() > deadline) {
            result = 1;
            break;
        }
        ssize_t count = read(file, buffer + held, sizeof buffer - held);
        if (count < 0) {
            if (errno == EINTR) continue;
            result = -errno;
            break;
        }
        held += (size_t)count;
        const char *line = buffer;
        for (const char *end; (end = (const char *)memchr(line, '\n', held - (size_t)(line - buffer)));
             line = end + 1) {
            uint64_t device, inode;
            if (!skips && tdxd_mapping_identity(line, end, &device, &inode)) each(context, device, inode);
            skips = 0;
        }
        held -= (size_t)(line - buffer);
        memmove(buffer, line, held);
        if (count == 0) {
            uint64_t device, inode;
            if (held && !skips && tdxd_mapping_identity(buffer, buffer + held, &device, &inode))
                each(context, device, inode);
            break;
        }
        if (held == sizeof buffer) {
            held = 0;
            skips = 1;
        }
    }
    close(file);
    return result;
}

