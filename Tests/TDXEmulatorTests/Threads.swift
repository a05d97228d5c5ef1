import Glibc
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
}
