internal import ControlInterface
internal import FoundationEssentials
internal import Glibc
internal import LinuxSystem
internal import Logging
internal import MemoryUnits
internal import Synchronization

/// What a holder would answer to a Stop, for a tdxd that is not there to hear it: a file that is opened before the fence, which
/// lets no file be made.
final class EndRecord: Sendable {
    private let path: String
    private let file: RetainedDescriptor
    private let isWritten = Atomic(false)
    private let log: Logger

    /// - Throws: EEXIST when there is anything at `path`.
    init(creating path: String, log: Logger) throws(LinuxError) {
        file = RetainedDescriptor(try OwnedDescriptor.create(path: path))
        self.path = path
        self.log = log
    }

    /// Without an end there need not be a file.
    func removeIfEmpty() {
        if !isWritten.load(ordering: .acquiring) { _ = unlink(path) }
    }

    /// In one call, so that no reader finds a part of it. A refusal is logged: the end goes on without a record.
    func write(_ reply: HolderInterface.Stop.Reply) {
        do {
            let bytes = Array(try JSONEncoder().encode(reply))
            try bytes.withUnsafeBytes { try file.descriptor.write($0, at: .zero) }
            isWritten.store(true, ordering: .releasing)
        } catch {
            log.warning("what came of the end cannot be written down", metadata: ["reason": "\(error)"])
        }
    }
}
