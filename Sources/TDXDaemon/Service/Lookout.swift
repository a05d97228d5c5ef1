internal import Glibc
internal import LinuxSystem
internal import Synchronization
internal import SystemPackage

/// Threads of tdxd that stay outside its fence, for looks into other processes.
///
/// A Landlock domain hides the descriptors and files of every process that is not inside it: of a holder that a former tdxd
/// started, and of whoever else may hold a TD's memory. Proofs need that look, so it is taken from threads that were started
/// before the fence was entered. They run nothing that a client says.
final class Lookout: Sendable {
    /// How many looks may be under way; further ones wait.
    static let lanes = 4

    private let lanes: [Lane]
    private let next = Atomic(0)

    /// Starts the threads: before the fence, and before anything else that starts one.
    /// - Throws: what pipe(2) and pthread_create(3) refuse.
    init() throws(LinuxError) {
        var made: [Lane] = []
        for _ in 0..<Self.lanes { made.append(try Lane()) }
        lanes = made
    }

    /// Does `look` on one of the threads and waits for it.
    func perform<Result: Sendable>(_ look: @escaping @Sendable () -> Result) -> Result {
        lanes[next.wrappingAdd(1, ordering: .relaxed).oldValue & (Self.lanes - 1)].perform(look)
    }

    /// One thread, which does one look at a time.
    private final class Lane: Sendable {
        private let turn = Mutex<Void>(())
        private let job = Mutex<(@Sendable () -> Void)?>(nil)
        private let asked: Signalling
        private let done: Signalling

        init() throws(LinuxError) {
            asked = try Signalling()
            done = try Signalling()
            // It ends with the process.
            _ = try SystemThread(name: "lookout") { [self] in
                while true {
                    asked.wait()
                    let look = job.withLock { $0 }
                    look?()
                    done.signal()
                }
            }
        }

        func perform<Result: Sendable>(_ look: @escaping @Sendable () -> Result) -> Result {
            let box = Box<Result>()
            turn.withLock { _ in
                job.withLock { $0 = { box.set(look()) } }
                asked.signal()
                done.wait()
                job.withLock { $0 = nil }
            }
            return box.value
        }
    }

    private final class Box<Value: Sendable>: Sendable {
        private let content = Mutex<Value?>(nil)
        func set(_ value: Value) { content.withLock { $0 = value } }
        var value: Value {
            guard let value = content.withLock({ $0 }) else { preconditionFailure("a look ended without a result") }
            return value
        }
    }

    /// A byte through a pipe for each event.
    private final class Signalling: Sendable {
        private let reading: RetainedDescriptor
        private let writing: RetainedDescriptor

        init() throws(LinuxError) {
            var ends: [Int32] = [-1, -1]
            // Children get only what they are given, so that none keeps an end.
            guard pipe(&ends) == 0 else { throw LinuxError("pipe", Errno(rawValue: errno)) }
            reading = RetainedDescriptor(OwnedDescriptor(taking: ends[0]))
            writing = RetainedDescriptor(OwnedDescriptor(taking: ends[1]))
        }

        func signal() {
            var byte: UInt8 = 1
            while write(writing.rawValue, &byte, 1) < 0, errno == EINTR {}
        }

        func wait() {
            var byte: UInt8 = 0
            while read(reading.rawValue, &byte, 1) < 0, errno == EINTR {}
        }
    }
}
