// Door to libsystemd, with what its callers need of C besides.
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>
#include <time.h>

// CLOCK_MONOTONIC, as MONOTONIC_USEC= wants it.
static inline uint64_t tdxd_monotonic_microseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static inline int tdxd_sock_stream(void) { return SOCK_STREAM; }

// What sd_listen_fds_with_names(3) allocated.
static inline void tdxd_free_names(char **names) {
    if (!names) return;
    for (char **name = names; *name; name++) free(*name);
    free(names);
}

// One record to the journal: `fields` holds count fields "NAME=value", one after the other, each `lengths[i]` bytes
// long. 0 or -errno.
static inline int tdxd_journal_send(const char *fields, const size_t *lengths, int count) {
    struct iovec vectors[64];
    if (count < 1 || count > 64) return -7;  // E2BIG
    for (int i = 0; i < count; i++) {
        vectors[i].iov_base = (void *)fields;
        vectors[i].iov_len = lengths[i];
        fields += lengths[i];
    }
    return (sd_journal_sendv)(vectors, count);
}

// UTC, "2026-01-31T23:59:59.123Z"; `text` has room for 32 bytes.
static inline void tdxd_format_now(char *text) {
    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    size_t length = strftime(text, 24, "%Y-%m-%dT%H:%M:%S", &parts);
    int milliseconds = (int)(now.tv_nsec / 1000000);
    text[length++] = '.';
    text[length++] = (char)('0' + milliseconds / 100);
    text[length++] = (char)('0' + milliseconds / 10 % 10);
    text[length++] = (char)('0' + milliseconds % 10);
    text[length++] = 'Z';
    text[length] = 0;
}

static inline const char *tdxd_environment(const char *name) { return getenv(name); }
