/*
 * Shows Thread Sanitizer the slow paths of Swift's Synchronization.Mutex.
 *
 * A Mutex is taken and given back by an atomic exchange that is compiled into the caller, which the sanitizer sees, or, when
 * another thread holds it or waits for it, by functions inside libswiftSynchronization, which was built without the sanitizer.
 * Whoever got the mutex there appears to hold nothing, and everything that it guards appears to race; unseen-lock.swift shows it.
 *
 * Linked into an executable, the definitions below stand before the library's: they call those and tell the sanitizer, at
 * the address of the mutex, what it missed. Nothing is suppressed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>

void __tsan_acquire(void *address);
void __tsan_release(void *address);

/* Synchronization._MutexHandle._lockSlow(UInt32), ._tryLockSlow() -> Bool, ._unlockSlow() */
#define LOCK "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define TRY_LOCK "$s15Synchronization12_MutexHandleV12_tryLockSlowSbyF"
#define UNLOCK "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"

#define SWIFT __attribute__((swiftcall))
#define SELF __attribute__((swift_context)) void *mutex

typedef SWIFT void lock_function(uint32_t thread, SELF);
typedef SWIFT bool try_lock_function(SELF);
typedef SWIFT void unlock_function(SELF);

SWIFT void mutex_lock_slow(uint32_t thread, SELF) __asm__(LOCK);
SWIFT bool mutex_try_lock_slow(SELF) __asm__(TRY_LOCK);
SWIFT void mutex_unlock_slow(SELF) __asm__(UNLOCK);

/* Before any thread: what dlsym does inside may itself take locks. */
static lock_function *library_lock;
static try_lock_function *library_try_lock;
static unlock_function *library_unlock;

__attribute__((constructor)) static void find_library(void) {
    library_lock = (lock_function *)dlsym(RTLD_NEXT, LOCK);
    library_try_lock = (try_lock_function *)dlsym(RTLD_NEXT, TRY_LOCK);
    library_unlock = (unlock_function *)dlsym(RTLD_NEXT, UNLOCK);
}

SWIFT void mutex_lock_slow(uint32_t thread, SELF) {
    library_lock(thread, mutex);
    __tsan_acquire(mutex);
}

SWIFT bool mutex_try_lock_slow(SELF) {
    bool taken = library_try_lock(mutex);
    if (taken) __tsan_acquire(mutex);
    return taken;
}

SWIFT void mutex_unlock_slow(SELF) {
    __tsan_release(mutex);
    library_unlock(mutex);
}
