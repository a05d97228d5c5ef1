internal import Glibc

// Why these exist beside Synchronization.Mutex: KVM's "all locks" guard holds a variable number of vCPU mutexes at once,
// KVM_RUN hands a lock across a return, and mmu_lock is a reader-writer lock. None of that fits a closure.

/// A sleeping mutual-exclusion lock, as the kernel's `struct mutex`. Not recursive.
final class Lock: @unchecked Sendable {
    // Sound: the storage has a fixed address and is only touched by the pthread calls, which synchronise themselves.
    private let raw = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)

    init() {
        let result = pthread_mutex_init(raw, nil)
        precondition(result == 0, "pthread_mutex_init: \(result)")
    }

    deinit {
        pthread_mutex_destroy(raw)
        raw.deallocate()
    }

    func lock() {
        let result = pthread_mutex_lock(raw)
        precondition(result == 0, "pthread_mutex_lock: \(result)")
    }

    /// False when another thread holds the lock.
    func tryLock() -> Bool { pthread_mutex_trylock(raw) == 0 }

    func unlock() {
        let result = pthread_mutex_unlock(raw)
        precondition(result == 0, "pthread_mutex_unlock: \(result)")
    }

    func withLock<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
        lock()
        defer { unlock() }
        return try body()
    }
}

/// A reader-writer lock, as the kernel's `mmu_lock` on x86.
final class ReadWriteLock: @unchecked Sendable {
    // Sound for the same reason as `Lock`.
    private let raw = UnsafeMutablePointer<pthread_rwlock_t>.allocate(capacity: 1)

    init() {
        let result = pthread_rwlock_init(raw, nil)
        precondition(result == 0, "pthread_rwlock_init: \(result)")
    }

    deinit {
        pthread_rwlock_destroy(raw)
        raw.deallocate()
    }

    func withReadLock<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
        pthread_rwlock_rdlock(raw)
        defer { pthread_rwlock_unlock(raw) }
        return try body()
    }

    func withWriteLock<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
        pthread_rwlock_wrlock(raw)
        defer { pthread_rwlock_unlock(raw) }
        return try body()
    }
}

/// A counting semaphore.
final class Semaphore: @unchecked Sendable {
    // Sound: fixed storage, touched by the sem_ calls only.
    private let raw = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

    init() {
        let result = sem_init(raw, 0, 0)
        precondition(result == 0, "sem_init")
    }

    deinit {
        sem_destroy(raw)
        raw.deallocate()
    }

    func signal() { sem_post(raw) }

    func wait() { while sem_wait(raw) != 0 {} }

    enum Woken {
        case signalled, timeout
        /// A signal handler ran on this thread.
        case interrupted
    }

    /// Waits that long at most.
    func wait(milliseconds: Int) -> Woken {
        var until = timespec()
        clock_gettime(CLOCK_REALTIME, &until)
        until.tv_nsec += milliseconds % 1000 * 1_000_000
        until.tv_sec += milliseconds / 1000 + until.tv_nsec / 1_000_000_000
        until.tv_nsec %= 1_000_000_000
        if sem_timedwait(raw, &until) == 0 { return .signalled }
        return errno == EINTR ? .interrupted : .timeout
    }
}
