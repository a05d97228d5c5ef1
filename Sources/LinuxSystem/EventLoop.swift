internal import CLinux
internal import Glibc
internal import Synchronization

/// What a descriptor is watched for, and what was seen on it. `hangUp` and `error` are always watched.
public struct ReadyEvents: OptionSet, Hashable, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// EPOLLIN
    public static let readable = Self(rawValue: EPOLLIN.rawValue)
    /// EPOLLOUT
    public static let writable = Self(rawValue: EPOLLOUT.rawValue)
    /// EPOLLRDHUP: the peer sends no more.
    public static let readingEnded = Self(rawValue: EPOLLRDHUP.rawValue)
    /// EPOLLHUP: both directions are over.
    public static let hangUp = Self(rawValue: EPOLLHUP.rawValue)
    /// EPOLLERR
    public static let error = Self(rawValue: EPOLLERR.rawValue)
}

/// One thread's loop over epoll(7): descriptors with callbacks, timers, and work handed in from other threads.
///
/// Everything but `perform(_:)`, `stop()` and `isOnLoopThread` belongs to the thread that runs the loop, or, before it
/// runs, to whoever sets it up; a call from elsewhere is a programming error and traps.
public final class EventLoop: @unchecked Sendable {
    // Why @unchecked is sound: `confined` is touched only after `checkConfinement()`, by one thread at a time; the
    // rest is immutable or guarded by itself.
    private let epoll: OwnedDescriptor
    private let wake: OwnedDescriptor
    private let handedIn = Mutex<[@Sendable () -> Void]>([])
    private let runningThread = Atomic<UInt>(0)
    private let stopRequested = Atomic<Bool>(false)
    private var confined = Confined()

    private struct Confined {
        var nextToken: UInt64 = 1
        var watches: [UInt64: Watch] = [:]
        var timers = TimerQueue()
    }

    /// A descriptor under watch. It does not own the descriptor: cancel before closing it.
    public final class Watch {
        fileprivate let descriptor: Int32
        fileprivate let token: UInt64
        fileprivate let callback: (ReadyEvents) -> Void
        fileprivate weak var loop: EventLoop?
        /// What is watched for now.
        public fileprivate(set) var interest: ReadyEvents

        fileprivate init(
            descriptor: Int32, token: UInt64, interest: ReadyEvents, loop: EventLoop,
            callback: @escaping (ReadyEvents) -> Void
        ) {
            self.descriptor = descriptor
            self.token = token
            self.interest = interest
            self.loop = loop
            self.callback = callback
        }

        /// Watches for something else from now on.
        public func change(to interest: ReadyEvents) {
            guard interest != self.interest, let loop else { return }
            loop.change(self, to: interest)
        }

        /// Ends the watch; the callback is not called again, not even for what was already seen.
        public func cancel() {
            loop?.remove(self)
            loop = nil
        }
    }

    /// - Throws: `EMFILE` or `ENFILE` at the limit of descriptors.
    public init() throws(LinuxError) {
        epoll = OwnedDescriptor(taking: try LinuxError.check(tdxd_epoll_create(), "epoll_create1"))
        wake = OwnedDescriptor(taking: try LinuxError.check(tdxd_eventfd(), "eventfd"))
        try LinuxError.check(
            tdxd_epoll_control(epoll.rawValue, EPOLL_CTL_ADD, wake.rawValue, EPOLLIN.rawValue, 0), "epoll_ctl")
    }

    // MARK: From any thread

    /// Runs `work` on the loop's thread, in the order of the calls. Work handed in after the loop has stopped is kept
    /// until it runs again, or dropped with it.
    public func perform(_ work: @escaping @Sendable () -> Void) {
        let first = handedIn.withLock { list in
            list.append(work)
            return list.count == 1
        }
        // The loop looks for itself before it sleeps: waking oneself up costs as much as waking up another.
        if first, !isOnLoopThread { tdxd_eventfd_signal(wake.rawValue) }
    }

    /// Makes `run()` return after the callbacks that are under way.
    public func stop() {
        stopRequested.store(true, ordering: .releasing)
        tdxd_eventfd_signal(wake.rawValue)
    }

    public var isOnLoopThread: Bool { runningThread.load(ordering: .relaxed) == tdxd_thread_identity() }

    // MARK: On the loop's thread, or before it runs

    /// Calls `callback` whenever one of `events` is seen on `descriptor`, until the watch is cancelled.
    ///
    /// - Throws: `EPERM` for a regular file, `EEXIST` for a descriptor that is watched already.
    @discardableResult
    public func watch(
        _ descriptor: Int32, for events: ReadyEvents, _ callback: @escaping (ReadyEvents) -> Void
    ) throws(LinuxError) -> Watch {
        checkConfinement()
        let token = confined.nextToken
        confined.nextToken += 1
        let result = tdxd_epoll_control(epoll.rawValue, EPOLL_CTL_ADD, descriptor, events.rawValue, token)
        try LinuxError.check(result, "epoll_ctl(EPOLL_CTL_ADD)", "descriptor \(descriptor)")
        let watch = Watch(descriptor: descriptor, token: token, interest: events, loop: self, callback: callback)
        confined.watches[token] = watch
        return watch
    }

    /// Calls `callback` once, no sooner than `delay` from now.
    @discardableResult
    public func schedule(after delay: Duration, _ callback: @escaping () -> Void) -> LoopTimer {
        checkConfinement()
        return confined.timers.add(at: MonotonicInstant.now + delay, every: nil, callback)
    }

    /// Calls `callback` again and again, the first time after one `interval`. Runs that were missed are not made up
    /// for.
    @discardableResult
    public func schedule(every interval: Duration, _ callback: @escaping () -> Void) -> LoopTimer {
        checkConfinement()
        return confined.timers.add(at: MonotonicInstant.now + interval, every: interval, callback)
    }

    /// Serves until `stop()`. May be called again afterwards.
    public func run() {
        let exchange = runningThread.compareExchange(
            expected: 0, desired: tdxd_thread_identity(), ordering: .acquiringAndReleasing)
        precondition(exchange.exchanged, "the loop is running already")
        defer {
            stopRequested.store(false, ordering: .releasing)
            runningThread.store(0, ordering: .releasing)
        }
        var ready = [tdxd_epoll_ready](repeating: tdxd_epoll_ready(), count: 64)
        while !stopRequested.load(ordering: .acquiring) {
            // What this very thread handed in has woken no wait.
            let hasWork = handedIn.withLock { !$0.isEmpty }
            let timeout = hasWork ? 0 : confined.timers.nextDeadline?.pollTimeout(from: .now) ?? -1
            let count = tdxd_epoll_wait(epoll.rawValue, &ready, Int32(ready.count), timeout)
            // EBADF, EFAULT and EINVAL can only be our own mistake.
            precondition(count >= 0 || count == -EINTR, "epoll_wait(2) failed with errno \(-count)")
            for event in ready.prefix(Int(max(count, 0))) { dispatch(event) }
            performHandedIn()
            for timer in confined.timers.takeDue(at: .now) { timer.fire() }
        }
    }

    private func dispatch(_ event: tdxd_epoll_ready) {
        if event.token == 0 {
            tdxd_eventfd_clear(wake.rawValue)
        } else {
            // A callback of the same batch may have cancelled this watch.
            confined.watches[event.token]?.callback(ReadyEvents(rawValue: event.events))
        }
    }

    /// One round: what these hand in themselves comes after the descriptors' next turn.
    private func performHandedIn() {
        let work = handedIn.withLock { list in
            defer { list = [] }
            return list
        }
        for item in work { item() }
    }

    fileprivate func change(_ watch: Watch, to interest: ReadyEvents) {
        checkConfinement()
        let result = tdxd_epoll_control(
            epoll.rawValue, EPOLL_CTL_MOD, watch.descriptor, interest.rawValue, watch.token)
        precondition(result == 0, "epoll_ctl(EPOLL_CTL_MOD) failed with errno \(-result): closed before its watch")
        watch.interest = interest
    }

    fileprivate func remove(_ watch: Watch) {
        checkConfinement()
        guard confined.watches.removeValue(forKey: watch.token) != nil else { return }
        _ = tdxd_epoll_control(epoll.rawValue, EPOLL_CTL_DEL, watch.descriptor, 0, 0)
    }

    private func checkConfinement() {
        let owner = runningThread.load(ordering: .relaxed)
        precondition(owner == 0 || owner == tdxd_thread_identity(), "not on the event loop's thread")
    }
}
