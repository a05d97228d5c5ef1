internal import CLinux
internal import Glibc

/// A lock with a condition to wait for, on the monotonic clock. Synchronization has no condition variable.
package final class Monitor<State>: @unchecked Sendable {
    // Sound: `state` is touched only between lock and unlock; the two pthread objects live at one address from init to
    // deinit, as they must.
    private var state: State
    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    package init(_ state: sending State) {
        self.state = state
        pthread_mutex_init(lock, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(lock)
        condition.deallocate()
        lock.deallocate()
    }

    /// Who hears of a change.
    package enum Wake: Sendable {
        case nobody
        /// For a change that any one of those who wait can take up.
        case one
        case everyone
    }

    /// Changes the state and wakes those who wait.
    package func update<Result>(waking wake: Wake = .everyone, _ change: (inout State) -> Result) -> Result {
        pthread_mutex_lock(lock)
        defer {
            pthread_mutex_unlock(lock)
            // After the lock: who wakes up would only wait for it.
            switch wake {
            case .nobody: break
            case .one: pthread_cond_signal(condition)
            case .everyone: pthread_cond_broadcast(condition)
            }
        }
        return change(&state)
    }

    /// Waits until `attempt` returns something; it runs under the lock and may change the state.
    package func wait<Result>(_ attempt: (inout State) -> Result?) -> Result {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        while true {
            if let result = attempt(&state) { return result }
            pthread_cond_wait(condition, lock)
        }
    }

    /// As `wait`, for at most `milliseconds`; nil when the time is over.
    package func wait<Result>(milliseconds: Int, _ attempt: (inout State) -> Result?) -> Result? {
        var end = timespec()
        clock_gettime(CLOCK_MONOTONIC, &end)
        end.tv_sec += milliseconds / 1000
        end.tv_nsec += milliseconds % 1000 * 1_000_000
        if end.tv_nsec >= 1_000_000_000 {
            end.tv_sec += 1
            end.tv_nsec -= 1_000_000_000
        }
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        while true {
            if let result = attempt(&state) { return result }
            if pthread_cond_timedwait(condition, lock, &end) == ETIMEDOUT { return attempt(&state) }
        }
    }
}
