internal import Glibc
internal import LinuxSystem
internal import SystemPackage
public import Testing

/// The kernel's messages from now on, read from /dev/kmsg.
public final class KernelLog: Sendable {
    private let file: RetainedDescriptor

    public init() throws {
        file = RetainedDescriptor(try OwnedDescriptor.open(path: "/dev/kmsg", .readOnly, nonBlocking: true))
        guard lseek(file.descriptor.rawValue, 0, SEEK_END) >= 0 else {
            throw LinuxError("lseek(/dev/kmsg)", Errno(rawValue: errno))
        }
    }

    /// A message and its level: 0 emergency … 3 error, 4 warning … 7 debug.
    public struct Message {
        public var level: Int
        public var text: String

        /// A warning with a backtrace, a refused SEAMCALL, an error: what no sequence of ioctls may cause.
        public var isComplaint: Bool {
            level <= 3 || Self.signs.contains { text.contains($0) }
        }
        private static let signs = [
            "WARNING:", "BUG:", "SEAMCALL", "cut here", "Call Trace", "Oops", "blocked for more",
        ]
    }

    /// What came since the last call.
    public func take() throws -> [Message] {
        var messages: [Message] = []
        var bytes = [UInt8](repeating: 0, count: 16 << 10)
        while true {
            let count = read(file.descriptor.rawValue, &bytes, bytes.count)
            if count < 0 {
                if errno == EAGAIN { return messages }
                // EPIPE: messages were overwritten before they were read.
                if errno == EINTR { continue }
                throw LinuxError("read(/dev/kmsg)", Errno(rawValue: errno))
            }
            let record = String(decoding: bytes[..<count], as: UTF8.self)
            // "PRIORITY,NUMBER,MICROSECONDS,FLAGS;TEXT", then lines of a dictionary.
            guard let line = record.split(separator: "\n").first, let semicolon = line.firstIndex(of: ";"),
                let priority = Int(line.prefix { $0 != "," })
            else { continue }
            messages.append(Message(level: priority & 7, text: String(line[line.index(after: semicolon)...])))
        }
    }
}

/// Fails a test during which the kernel warned, or refused a SEAMCALL, unless the test orders that.
public struct KernelLogTrait: SuiteTrait, TestTrait, TestScoping {
    /// Complaints with one of these words are ordered.
    public var ordered: [String]
    public var isRecursive: Bool { true }

    public func provideScope(
        for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
    ) async throws {
        // Once for each test, and not for the suite around them.
        guard testCase != nil else { return try await function() }
        let log = try KernelLog()
        try await function()
        for message in try log.take() where message.isComplaint {
            guard !ordered.contains(where: { message.text.contains($0) }) else { continue }
            Issue.record("the kernel: \(message.text)")
        }
    }
}

extension Trait where Self == KernelLogTrait {
    public static var kernelStaysCalm: Self { KernelLogTrait(ordered: []) }
    public static func kernelComplainsOnly(of words: String...) -> Self { KernelLogTrait(ordered: words) }
}
