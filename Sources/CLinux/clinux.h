// Door to Linux calls that Swift's Glibc overlay hides or cannot call (variadic, _GNU_SOURCE, no wrapper in glibc 2.36).
// Headers only. Every function returns what the system call returns; failures are -errno, so that errno itself is never
// read from Swift after a runtime call could have changed it.
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "clinux_memory.h"
#include "clinux_process.h"
#include "clinux_socket.h"
