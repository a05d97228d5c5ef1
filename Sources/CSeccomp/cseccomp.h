// Door to libseccomp. Functions return 0 or -errno.
#pragma once
#include <errno.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

// Actions are macros with arguments.
static inline uint32_t tdxd_seccomp_allow(void) { return SCMP_ACT_ALLOW; }
static inline uint32_t tdxd_seccomp_log(void) { return SCMP_ACT_LOG; }
static inline uint32_t tdxd_seccomp_kill_process(void) { return SCMP_ACT_KILL_PROCESS; }
static inline uint32_t tdxd_seccomp_errno(uint16_t number) { return SCMP_ACT_ERRNO(number); }

// A number by name on this machine's architecture; negative where libseccomp does not know the name.
static inline int tdxd_seccomp_resolve(const char *name) { return seccomp_syscall_resolve_name(name); }

// Allows or refuses a call where (argument & mask) == value; without an argument (negative) always. A rule that is
// already there is none too many.
static inline int tdxd_seccomp_rule(
    void *filter, uint32_t action, int number, int argument, uint64_t mask, uint64_t value) {
    struct scmp_arg_cmp match = {argument < 0 ? 0 : (unsigned)argument, SCMP_CMP_MASKED_EQ, mask, value};
    int result = seccomp_rule_add_exact_array(filter, action, number, argument < 0 ? 0 : 1, &match);
    return result == -EEXIST ? 0 : result;
}

// no_new_privs, all threads at once, refused calls in the audit log, balanced tree; then into the kernel.
static inline int tdxd_seccomp_load(void *filter, int log) {
    int result;
    if ((result = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 1)) != 0) return result;
    if ((result = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1)) != 0) return result;
    if ((result = seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, log ? 1 : 0)) != 0) return result;
    if ((result = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2)) != 0) return result;
    // The kernel's own errno instead of ECANCELED.
    if ((result = seccomp_attr_set(filter, SCMP_FLTATR_API_SYSRAWRC, 1)) != 0) return result;
    return seccomp_load(filter);
}

// A call by number, for trying whether a filter lets it through.
static inline long tdxd_seccomp_attempt(int number, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    long result = syscall(number, a, b, c, d, 0L, 0L);
    return result == -1 ? -errno : result;
}
