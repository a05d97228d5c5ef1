import Glibc
import LinuxSystem
import Synchronization

/// Plain threads for blocking calls: tests never block Swift's own pool with them.
enum Threads {
    /// Runs every piece of work on a thread of its own and waits for all; the errors that were thrown.
    static func run(_ work: [@Sendable () throws -> Void]) -> [any Error] {
        let errors = Mutex<[any Error]>([])
        let threads = work.map { piece in
            start {
                do { try piece() } catch { errors.withLock { $0.append(error) } }
            }
        }
        threads.forEach { pthread_join($0, nil) }
        return errors.withLock { $0 }
    }

    static func start(_ body: @escaping @Sendable () -> Void) -> pthread_t {
        final class Box: Sendable {
            let body: @Sendable () -> Void
            init(_ body: @escaping @Sendable () -> Void) { self.body = body }
        }
        var thread = pthread_t()
        let result = pthread_create(
            &thread, nil,
            { argument in
                Unmanaged<Box>.fromOpaque(argument!).takeRetainedValue().body()
                return nil
            }, Unmanaged.passRetained(Box(body)).toOpaque())
        precondition(result == 0, "pthread_create: \(result)")
        return thread
    }

    /// A thread of this process that sleeps in the kernel.
    static func isAsleep(_ thread: Int32) -> Bool {
        guard let text = try? TextFile.read("/proc/self/task/\(thread)/stat", limit: 4096),
            let end = text.lastIndex(of: ")")
        else { return false }
        return text[end...].dropFirst(2).first == "S"
    }

    static func eventually(_ condition: () -> Bool) -> Bool {
        let end = MonotonicInstant.now + .seconds(120)
        while MonotonicInstant.now < end {
            if condition() { return true }
            CurrentThread.sleep(milliseconds: 1)
        }
        return condition()
    }
}
