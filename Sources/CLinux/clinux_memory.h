#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <stdint.h>
#include <unistd.h>

static inline int tdxd_close(int fd) { return close(fd) == 0 ? 0 : -errno; }
