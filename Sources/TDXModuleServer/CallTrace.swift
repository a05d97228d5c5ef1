internal import LinuxSystem
internal import MemoryUnits
internal import Synchronization

/// A recording of the module's calls, a line of JSON each, which `tdxctl trace replay` reads. A file system that is full ends
/// the recording and nothing else: what was written before stays whole lines.
final class CallTrace: Sendable {
    private let file: RetainedDescriptor
    /// Where the next line goes; nil after a failure.
    private let end = Mutex<ByteCount?>(.zero)

    /// - Throws: EEXIST when there is anything at `path`.
    init(creating path: String) throws(LinuxError) {
        file = RetainedDescriptor(try OwnedDescriptor.create(path: path))
    }

    func write(_ line: String) {
        let bytes = Array((line + "\n").utf8)
        end.withLock { end in
            guard let offset = end else { return }
            do {
                try bytes.withUnsafeBytes { try file.descriptor.write($0, at: offset) }
                end = offset + ByteCount(UInt64(bytes.count))
            } catch {
                end = nil
            }
        }
    }
}
