// Door to Linux calls that Swift's Glibc overlay hides or cannot call (variadic, _GNU_SOURCE, no wrapper in glibc
// 2.36). Headers only. Every function returns what the system call returns; failures are -errno, so that errno itself
// is never read from Swift after a runtime call could have changed it.
//
// _GNU_SOURCE must not be defined here. Swift's own module of glibc is built without it, and glibc's headers then
// define some types (fd_set, enum __rusage_who) differently; a program that loads both modules would not compile. What
// glibc shows only under _GNU_SOURCE is declared, or called by number, where it is needed.
#pragma once
#include "clinux_landlock.h"
#include "clinux_look.h"
#include "clinux_memory.h"
#include "clinux_process.h"
#include "clinux_socket.h"
#include "clinux_terminal.h"
