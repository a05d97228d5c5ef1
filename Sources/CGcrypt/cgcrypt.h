// Door to libgcrypt.
#pragma once
#include <gcrypt.h>

// Starts the library, once in a process; other users of it in this process (libsystemd) may have done so. 0 where it is
// older than 1.10. No secret is kept in its locked memory, so it takes none.
static inline int tdxd_gcrypt_start(void) {
    if (gcry_control(GCRYCTL_INITIALIZATION_FINISHED_P)) return 1;
    if (!gcry_check_version("1.10.0")) return 0;
    gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
    gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
    return 1;
}
