internal import LinuxSystem
internal import MemoryUnits
internal import Synchronization

/// A recording of the software module's calls, a line of JSON each, in a file of its own.
///
/// A file system that is full ends the recording, not the TD: what was written before stays whole lines.
final class TraceFile: Sendable {
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
                // In bounds: the call writes no more than the buffer holds.
                try bytes.withUnsafeBytes { try file.descriptor.write($0, at: offset) }
                end = offset + ByteCount(UInt64(bytes.count))
            } catch {
                end = nil
            }
        }
    }
}
