// What a program needs to know of its terminal.
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

static inline int tdxd_is_terminal(int fd) { return isatty(fd) == 1; }

// Columns of the terminal at fd; 0 where there is none.
static inline int tdxd_terminal_columns(int fd) {
    struct winsize size;
    return ioctl(fd, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

// The program's environment: NULL after its last entry.
extern char **environ;
static inline char **tdxd_environment(void) { return environ; }

// The current directory, to be freed; NULL when there is none.
static inline char *tdxd_working_directory(void) { return getcwd(NULL, 0); }

static inline _Noreturn void tdxd_exit(int status) { exit(status); }
