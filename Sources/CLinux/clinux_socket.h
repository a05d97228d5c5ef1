// Unix stream sockets with descriptor passing, epoll, eventfd. Every function returns the call's result or -errno.
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

// Not in Debian 12's headers (Linux 6.5).
#ifndef SO_PEERPIDFD
#define TDXD_SO_PEERPIDFD 77
#else
#define TDXD_SO_PEERPIDFD SO_PEERPIDFD
#endif

// The kernel takes at most SCM_MAX_FD descriptors in one message.
#define TDXD_SCM_MAX_FD 253

static inline int tdxd_unix_stream_socket(void) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd < 0 ? -errno : fd;
}

static inline int tdxd_unix_stream_pair(int fds[2]) {
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0 ? -errno : 0;
}

// Messages with borders, in order, none lost.
static inline int tdxd_unix_packet_pair(int fds[2]) {
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0 ? -errno : 0;
}

// Longest path of a socket in the file system, without the terminating NUL.
static inline size_t tdxd_unix_path_max(void) { return sizeof(((struct sockaddr_un *)0)->sun_path) - 1; }

static inline int tdxd_unix_address(struct sockaddr_un *address, const char *path) {
    size_t length = strlen(path);
    if (length == 0 || length > tdxd_unix_path_max()) return -ENAMETOOLONG;
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, path, length);
    return 0;
}

static inline int tdxd_unix_bind(int fd, const char *path) {
    struct sockaddr_un address;
    int bad = tdxd_unix_address(&address, path);
    if (bad) return bad;
    return bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
}

static inline int tdxd_unix_connect(int fd, const char *path) {
    struct sockaddr_un address;
    int bad = tdxd_unix_address(&address, path);
    if (bad) return bad;
    return connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
}

static inline int tdxd_listen(int fd, int backlog) { return listen(fd, backlog) < 0 ? -errno : 0; }

// glibc declares it under _GNU_SOURCE only.
int accept4(int, struct sockaddr *, socklen_t *, int);

static inline int tdxd_accept(int fd) {
    int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    return accepted < 0 ? -errno : accepted;
}

static inline int tdxd_shutdown(int fd) { return shutdown(fd, SHUT_RDWR) < 0 ? -errno : 0; }
static inline int tdxd_shutdown_write(int fd) { return shutdown(fd, SHUT_WR) < 0 ? -errno : 0; }

static inline int tdxd_set_cloexec_nonblock(int fd) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) return -errno;
    return fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0;
}

// 1 for a listening stream socket, 0 for anything else.
static inline int tdxd_is_listening_stream(int fd) {
    int type = 0, listening = 0;
    socklen_t length = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0 || type != SOCK_STREAM) return 0;
    length = sizeof listening;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) < 0) return 0;
    return listening != 0;
}

struct tdxd_peer { int32_t pid; uint32_t uid; uint32_t gid; };

static inline int tdxd_peer_credentials(int fd, struct tdxd_peer *peer) {
    socklen_t length = sizeof *peer;  // laid out as struct ucred
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &length) < 0 ? -errno : 0;
}

// SO_PEERGROUPS: the peer's supplementary groups. Returns how many, or -errno; -ERANGE when more than `capacity`.
static inline int tdxd_peer_groups(int fd, uint32_t *groups, int capacity) {
    socklen_t length = (socklen_t)(sizeof(gid_t) * (size_t)capacity);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &length) < 0) return -errno;
    return (int)(length / sizeof(gid_t));
}

static inline int tdxd_peer_pidfd(int fd) {
    int pidfd = -1;
    socklen_t length = sizeof pidfd;
    if (getsockopt(fd, SOL_SOCKET, TDXD_SO_PEERPIDFD, &pidfd, &length) < 0) return -errno;
    return pidfd;
}

// Sends bytes, with the descriptors attached to the first of them.
static inline ssize_t tdxd_send(int fd, const void *bytes, size_t length, const int *fds, int fd_count) {
    char control[CMSG_SPACE(sizeof(int) * TDXD_SCM_MAX_FD)] __attribute__((aligned(_Alignof(struct cmsghdr))));
    struct iovec vector = {.iov_base = (void *)bytes, .iov_len = length};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    if (fd_count < 0 || fd_count > TDXD_SCM_MAX_FD) return -E2BIG;
    if (fd_count > 0) {
        memset(control, 0, sizeof control);
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)fd_count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)fd_count);
        memcpy(CMSG_DATA(header), fds, sizeof(int) * (size_t)fd_count);
    }
    ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent < 0 ? -errno : sent;
}

// Receives bytes and up to `capacity` descriptors, each close-on-exec. `*truncated` is 1 when the kernel dropped
// descriptors for want of room (here or in the process's table); those that did arrive are in `fds` all the same.
static inline ssize_t tdxd_receive(
    int fd, void *bytes, size_t length, int *fds, int capacity, int *fd_count, int *truncated
) {
    char control[CMSG_SPACE(sizeof(int) * TDXD_SCM_MAX_FD)] __attribute__((aligned(_Alignof(struct cmsghdr))));
    struct iovec vector = {.iov_base = bytes, .iov_len = length};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    *fd_count = 0;
    *truncated = 0;
    if (capacity < 0 || capacity > TDXD_SCM_MAX_FD) return -E2BIG;
    // CMSG_SPACE rounds up and so could let one descriptor more in than was asked for: CMSG_LEN is exact.
    message.msg_control = control;
    message.msg_controllen = CMSG_LEN(sizeof(int) * (size_t)capacity);
    ssize_t received = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (received < 0) return -errno;
    if (message.msg_flags & MSG_CTRUNC) *truncated = 1;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int passed;
            memcpy(&passed, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
            if (*fd_count < capacity) {
                fds[(*fd_count)++] = passed;
            } else {
                close(passed);
                *truncated = 1;
            }
        }
    }
    return received;
}

// Waits for one descriptor. Returns revents (0 on time-out) or -errno. timeout_ms -1 waits for ever.
static inline int tdxd_poll_one(int fd, short events, int timeout_ms) {
    struct pollfd entry = {.fd = fd, .events = events};
    int ready = poll(&entry, 1, timeout_ms);
    if (ready < 0) return -errno;
    return ready == 0 ? 0 : entry.revents;
}

static inline int tdxd_epoll_create(void) {
    int fd = epoll_create1(EPOLL_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static inline int tdxd_epoll_control(int epoll, int operation, int fd, uint32_t events, uint64_t token) {
    struct epoll_event event = {.events = events, .data = {.u64 = token}};
    return epoll_ctl(epoll, operation, fd, &event) < 0 ? -errno : 0;
}

struct tdxd_epoll_ready { uint32_t events; uint64_t token; };

static inline int tdxd_epoll_wait(int epoll, struct tdxd_epoll_ready *ready, int capacity, int timeout_ms) {
    struct epoll_event events[64];
    int count = epoll_wait(epoll, events, capacity > 64 ? 64 : capacity, timeout_ms);
    if (count < 0) return -errno;
    for (int i = 0; i < count; i++) {
        ready[i].events = events[i].events;
        ready[i].token = events[i].data.u64;
    }
    return count;
}

static inline int tdxd_eventfd(void) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

static inline void tdxd_eventfd_signal(int fd) {
    uint64_t one = 1;
    ssize_t ignored = write(fd, &one, sizeof one);
    (void)ignored;
}

static inline void tdxd_eventfd_clear(int fd) {
    uint64_t count;
    ssize_t ignored = read(fd, &count, sizeof count);
    (void)ignored;
}

// A number that no other living thread has.
static inline uintptr_t tdxd_thread_identity(void) { return (uintptr_t)pthread_self(); }
