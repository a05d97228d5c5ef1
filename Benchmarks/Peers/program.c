// A VMM as most are: it closes its guest_memfd and exits.
#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include "peers.h"

// Runs in the child of a process with threads: system calls only.
static _Noreturn void hold_and_exit(uint64_t bytes, int ready, int order) {
    struct peer_memory memory = peer_memory_make(bytes);
    char byte = memory.file >= 0 && peer_memory_allocate(memory, 2 << 20) > 0;
    if (write(ready, &byte, 1) != 1 || !byte) _exit(1);
    while (read(order, &byte, 1) < 0 && errno == EINTR) continue;
    peer_memory_close(memory);
    _exit(0);
}

struct peer_program peer_program_start(uint64_t bytes) {
    struct peer_program program = {-1, -1};
    int ready[2], order[2];
    if (pipe(ready) != 0) return program;
    if (pipe(order) != 0) {
        close(ready[0]);
        close(ready[1]);
        return program;
    }
    int pid = fork();
    if (pid == 0) {
        close(ready[0]);
        close(order[1]);
        hold_and_exit(bytes, ready[1], order[0]);
    }
    close(ready[1]);
    close(order[0]);
    char byte = 0;
    if (pid > 0 && read(ready[0], &byte, 1) == 1 && byte) {
        program = (struct peer_program){pid, order[1]};
    } else {
        close(order[1]);
        if (pid > 0) waitpid(pid, NULL, 0);
    }
    close(ready[0]);
    return program;
}

uint64_t peer_program_end(struct peer_program program) {
    int status = 1;
    uint64_t start = peer_now();
    close(program.order);
    while (waitpid(program.pid, &status, 0) < 0 && errno == EINTR) continue;
    uint64_t time = peer_now() - start;
    return status == 0 ? time : 0;
}
