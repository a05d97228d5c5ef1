internal import CLinux
internal import Synchronization

/// A thread of its own, for work that blocks. Never the cooperative pool.
public final class SystemThread: Sendable {
    private let handle: UInt
    private let joined = Atomic(false)

    /// Starts the thread.
    /// - Parameter name: what ps and /proc show, up to 15 bytes.
    /// - Throws: EAGAIN when the limit of threads is reached.
    public init(name: String, _ body: @escaping @Sendable () -> Void) throws(LinuxError) {
        // The box crosses to the new thread as a bare pointer; that thread takes the reference over.
        let box = Unmanaged.passRetained(
            Box {
                CurrentProcess.setThreadName(name)
                body()
            })
        var handle: UInt = 0
        let result = tdxd_thread_start(
            { context in
                Unmanaged<Box>.fromOpaque(context!).takeRetainedValue().body()
                return nil
            }, box.toOpaque(), &handle)
        if result < 0 {
            box.release()
            try LinuxError.check(result, "pthread_create", name)
        }
        self.handle = handle
    }

    /// Waits until the thread has ended. Only the first call waits.
    public func join() {
        guard !joined.exchange(true, ordering: .acquiringAndReleasing) else { return }
        tdxd_thread_join(handle)
    }

    deinit {
        if !joined.load(ordering: .acquiring) { tdxd_thread_detach(handle) }
    }

    private final class Box: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
}

/// The thread that runs this code.
public enum CurrentThread {
    /// Sleeps that long or, when a signal comes, shorter. Never on the cooperative pool.
    public static func sleep(milliseconds: UInt64) { _ = tdxd_sleep_ns(milliseconds * 1_000_000) }
}
